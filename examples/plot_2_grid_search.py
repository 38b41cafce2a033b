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
from sklearn.pipeline import Pipeline

from skmars import (
    DINClassifier,
    LeaveLastOut,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    make_multimodal_ctr,
)

X, y = make_multimodal_ctr(n_users=200, n_items=300, random_state=0)

# %%
# With ``memory``, scikit-learn keeps the fitted first steps of a pipeline: the aligner is fitted once
# for each pair of λ and β, whatever the number of θ. Items are encoded once in any case.
mars = Pipeline(
    [
        ("encode", MultimodalEncoder()),
        ("align", SteinAligner(32, id_dim=16, max_iter=4, random_state=0)),
        ("augment", SequenceRetrievalAugmenter(relevance="target", n_neighbors=5, low_quantile=0.5)),
        ("ctr", DINClassifier(max_iter=6, random_state=0)),
    ],
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
# ``cv_results_`` runs through the grid with θ fastest, as parameters are sorted by name.
theta, lam, beta = (
    search.param_grid[name] for name in ("augment__theta", "align__lam", "align__beta")
)
auc = search.cv_results_["mean_test_score"].reshape(len(beta), len(lam), len(theta))

fig, axes = plt.subplots(1, len(beta), figsize=(9, 3.6), sharey=True, layout="constrained")
for ax, b, values in zip(axes, beta, auc):
    image = ax.imshow(values, vmin=auc.min(), vmax=auc.max(), cmap="viridis", aspect="auto")
    for (row, column), value in [((r, c), values[r, c]) for r in range(len(lam)) for c in range(len(theta))]:
        dark = value < (auc.min() + auc.max()) / 2
        ax.text(column, row, f"{value:.3f}", ha="center", va="center", color="w" if dark else "k")
    ax.set(title=f"β = {b}", xlabel="θ", xticks=range(len(theta)), xticklabels=theta)
axes[0].set(ylabel="λ", yticks=range(len(lam)), yticklabels=lam)
fig.colorbar(image, ax=axes, label="AUC of the last impressions")
plt.show()

# %%
# Mind the scale of the colours: with 200 held-out rows, differences of a few hundredths are chance.
# On your data, use more folds (``LeaveLastOut(n_splits=3)``), and
# :func:`~skmars.metrics.low_active_auc_scorer` where the users with short histories are what matters.
