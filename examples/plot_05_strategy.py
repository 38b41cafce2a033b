"""
Choosing a padding strategy
===========================

Four ways to choose what is borrowed (section 4.4 of the paper), and not to borrow at all. The
aligner is fitted once; augmenter and classifier are fitted for each. Rows to train on are made by
``fit_transform``, so that what they know was learnt of other users; rows to predict by
``transform``.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skmars import (
    DINClassifier,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)
from skmars.metrics import delong_test

X, y = make_multimodal_ctr(n_users=300, n_items=600, random_state=1)
train, _, test = leave_last_out(X)
aligned = make_pipeline(
    MultimodalEncoder(), SteinAligner(64, id_dim=32, max_iter=5, random_state=0)
)
X_train, y_train = aligned.fit_transform(X[train], y[train]), y[train]

# %%
# What each strategy borrows
# --------------------------
# ``filter`` keeps what fits the user or the item shown; ``most_similar`` takes the whole history of
# the most similar donor, and ``kth`` those of the k most similar ones; ``dp`` aligns the two
# histories in order.
strategies = {
    "filter, target": {"strategy": "filter", "relevance": "target", "theta": 0.3, "n_neighbors": 5},
    "filter, user": {"strategy": "filter", "relevance": "user", "theta": 0.3, "n_neighbors": 5},
    "most_similar": {"strategy": "most_similar"},
    "kth": {"strategy": "kth", "n_neighbors": 5},
    "dp": {"strategy": "dp", "theta": 0.3, "n_neighbors": 5},
}
din = DINClassifier(
    max_iter=10, batch_size=512, learning_rate=5e-3, early_stopping=False, random_state=0
)
base = clone(din).fit(X_train, y_train)

longest = np.zeros(len(X.users))
np.maximum.at(longest, X.user[train], X.history.length[train])
low = test[longest[X.user[test]] <= np.quantile(longest, 0.3)]
X_low, y_low = aligned.transform(X[low]), y[low]
p_base = base.predict_proba(X_low)[:, 1]

results = {}
for name, parameters in strategies.items():
    augmenter = SequenceRetrievalAugmenter(max_borrowed=40, **parameters)
    model = make_pipeline(augmenter, clone(din)).fit(X_train, y_train)
    results[name] = delong_test(y_low, model.predict_proba(X_low)[:, 1], p_base)
    n = augmenter.transform(X_low).borrowed.length
    print(f"{name:15} {n.mean():5.1f} items borrowed a row, AUC {results[name].score:.3f}")

# %%
# Paired differences
# ------------------
# All models score the same rows, so that the interval of a *difference* is what counts. An
# interval that holds zero is no evidence for or against a strategy on this data, and one seed of
# data and training is no evidence for any other data: this is the way to look, not what to
# expect.
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for i, result in enumerate(results.values()):
    lower, upper = result.confidence_interval
    ax.plot([lower, upper], [i, i], color="C0", linewidth=3, alpha=0.5)
    ax.plot(result.difference, i, "o", color="C0", markersize=9)
ax.axvline(0, color="0.5", linewidth=1)
ax.set(
    yticks=range(len(results)),
    yticklabels=results,
    xlabel=f"AUC of {len(low)} low-active rows minus that without borrowing (95 % interval)",
)
ax.invert_yaxis()
plt.show()
