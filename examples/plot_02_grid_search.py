"""
Grid search over θ, λ and β
===========================

The three weights of MARS are parameters of the pipeline's steps, so that scikit-learn's own search
chooses them: θ, how relevant an item must be to be borrowed; λ, how much the aligned space spreads;
β, how much alignment counts beside the clicks.
"""

# %%
from tempfile import mkdtemp

import matplotlib.pyplot as plt
from sklearn.model_selection import GridSearchCV

from skmars import LeaveLastOut, make_mars, make_multimodal_ctr
from skmars.plotting import SearchHeatmapDisplay

X, y = make_multimodal_ctr(n_users=120, n_items=150, random_state=0)

# %%
# With ``memory``, scikit-learn keeps the fitted first steps of a pipeline: the aligner is fitted
# once for each pair of λ and β, whatever the number of θ. Items are encoded once in any case.
mars = make_mars(
    align__n_components=32,
    align__id_dim=16,
    align__max_iter=2,
    augment__n_neighbors=5,
    augment__low_quantile=0.5,
    ctr__max_iter=8,
    ctr__batch_size=512,
    ctr__learning_rate=5e-3,
    random_state=0,
    memory=mkdtemp(),
)
search = GridSearchCV(
    mars,
    {
        "augment__theta": [-0.2, 0.1, 0.4, 0.7],
        "align__lam": [0.0, 0.1, 1.0],
        "align__beta": [0.1, 1.0],
    },
    cv=LeaveLastOut(),
    scoring="roc_auc",
)
search.fit(X, y)
print(search.best_params_)

# %%
# The heat map
# ------------
# Three parameters on two axes: each cell shows the best value over the third.
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, other in zip(axes, ["align__lam", "align__beta"]):
    SearchHeatmapDisplay.from_cv_results(
        search.cv_results_, "augment__theta", other, score_name="AUC of the last impressions", ax=ax
    )
plt.show()

# %%
# Mind the scale of the colours: with 120 held-out rows, differences of a few hundredths are
# chance. On your data, use more folds (``LeaveLastOut(n_splits=3)``), and
# :func:`~skmars.model_selection.low_active_auc_scorer` where the users with short histories are
# what matters.
