"""
Grid search: which θ, and how many donors?
==========================================

How relevant must an item be to be borrowed (θ), and from how many donors? Both are parameters of a
step of the pipeline, so that scikit-learn's own search chooses them. This page also asks what the
choice is worth, and what λ and β, the weights of the alignment, have to do with it.
"""

# %%
# Rows to fit, to choose, and to test
# -----------------------------------
# 300 users train the models. The last rows of 3,000 others choose the parameters, and those of
# 3,000 more are the test, which is scored once. Both parameters matter for low-active users alone,
# so that only rows with one or two clicks in the history count.
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

from skmars import leave_last_out, make_mars, make_multimodal_ctr
from skmars.metrics import delong_test
from skmars.plotting import SearchHeatmapDisplay

X, y = make_multimodal_ctr(n_users=6300, n_items=300, mean_length=12, random_state=0)
train = np.flatnonzero(X.user < 300)
last = leave_last_out(X)[2]
length = X.history.length[last]
last = last[(X.user[last] >= 300) & (length >= 1) & (length <= 2)]
valid, test = last[X.user[last] < 3300], last[X.user[last] >= 3300]
print(f"{len(train)} training rows, {len(valid)} validation rows, {len(test)} test rows")

# %%
# The search
# ----------
# θ is a cosine. With -1, its least value, a donor's whole history is borrowed. So -1 is an edge of
# the grid, but there is nothing beyond it. With ``memory``, scikit-learn keeps the fitted first
# steps: the aligner is fitted once for all candidates. ``cv`` is one split. ``refit=False``, as the
# default would fit the best candidate to validation rows, too.
mars = make_mars(
    random_state=0,
    memory=mkdtemp(),
    align__n_components=32,
    align__id_dim=16,
    align__max_iter=1,
    augment__max_borrowed=30,
    augment__n_lookalikes=0,
    ctr__batch_size=256,
    ctr__learning_rate=5e-3,
    ctr__max_iter=10,
)
grid = {"augment__theta": [-1.0, 0.0, 0.5], "augment__n_neighbors": [1, 5, 20]}
search = GridSearchCV(mars, grid, cv=[(train, valid)], scoring="roc_auc", refit=False)
search.fit(X, y)
best = search.cv_results_["params"][search.cv_results_["mean_test_score"].argmax()]
print(best)

# %%
fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
SearchHeatmapDisplay.from_cv_results(
    search.cv_results_, "augment__theta", "augment__n_neighbors", score_name="validation AUC", ax=ax
)
plt.show()

# %%
# What the choice is worth
# ------------------------
# The best candidate of a grid is partly the luckiest one. The test rows tell how good it is,
# against borrowing nothing (θ above 1).
candidates = {
    "chosen": best,
    "nothing borrowed": {"augment__theta": 1.1},
}
p = {}
for name, parameters in candidates.items():
    model = clone(mars).set_params(**parameters).fit(X[train], y[train])
    p[name] = model.predict_proba(X[test])[:, 1]
    result = delong_test(y[test], p["chosen"], p[name])
    lower, upper = result.confidence_interval
    loss = log_loss(y[test], p[name])
    print(f"{name:16} AUC {result.base_score:.3f}, log loss {loss:.3f}", end="")
    print("" if name == "chosen" else f": {result.difference:+.3f} ({lower:+.3f} to {upper:+.3f})")

# %%
# λ and β
# -------
# They shape the aligned space. By default, the later steps compare items by their features
# (``item_representation="features"``) and do not read that space: the predictions stay the same,
# so do not search over λ and β there.
other = clone(mars).set_params(align__lam=1.0, align__beta=1.0, **best).fit(X[train], y[train])
change = np.abs(other.predict_proba(X[test])[:, 1] - p["chosen"]).max()
print(f"largest change of a probability with other weights: {change:.1e}")

# %%
# So search over θ and the number of donors, on many rows: neighbouring cells of the map differ by
# as little as chance does. Only with ``augment__item_representation="embedding"``, as the paper has
# it, do λ and β matter; ``{"align__lam": [0.01, 0.1, 1.0], "align__beta": [0.1, 1.0]}`` joins the
# grid then. See :doc:`/guide/tuning`.
