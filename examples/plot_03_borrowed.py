"""
What a low-active user borrowed
===============================

Every borrowed item has a story: which donor it came from, how alike the two users are, and how well
the item fits. ``explain`` tells it as a table; covers tell it at a glance.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import log_loss
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
from skmars.plotting import HistoryDisplay

X, y, truth = make_multimodal_ctr(n_users=300, n_items=300, random_state=3, return_truth=True)
train, _, test = leave_last_out(X)

aligned = make_pipeline(
    MultimodalEncoder(), SteinAligner(64, id_dim=32, max_iter=5, random_state=0)
)
augmenter = SequenceRetrievalAugmenter(theta=0.2, n_neighbors=2, max_borrowed=8, low_quantile=0.4)
known = aligned.fit_transform(X[train], y[train])
own_and_borrowed = augmenter.fit_transform(known)  # out of fold, to train a classifier on
rows = aligned.transform(X[test])
augmented = augmenter.transform(rows)
augmented

# %%
# One row, explained
# ------------------
# Take a row with a short history that borrowed something.
own, borrowed = augmented.history.length, augmented.borrowed.length
row = np.flatnonzero((borrowed >= 6) & (own >= 2) & (own <= 4))[0]
explained = augmenter.explain(rows[[row]])
explained.drop(columns=["timestamp"])

# %%
# The strip
# ---------
# Left to right, as the model reads it: what was borrowed, with the similarity of the donor (Eq.
# 15) and of each item (Eq. 16); the user's own history; and the item in question.
HistoryDisplay.from_estimator(augmenter, rows, row=row, max_borrowed=4)
plt.show()

# %%
# Was it a good donor?
# --------------------
# Here the truth is planted: users of one group like the same factors. A donor is right if the
# group is.
group = dict(zip(X.users, truth.group))
everything = augmenter.explain(rows)
pairs = everything.drop_duplicates(["row", "donor_id"])
same = pairs["user_id"].map(group) == pairs["donor_id"].map(group)
print(f"{same.mean():.0%} of {len(pairs)} pairs are of one group; by chance it would be 1 in 8.")

# %%
# Did it help?
# ------------
# Good donors are a means. What counts are the clicks on the rows that borrowed something, predicted
# with and without what the augmenter adds.
din = DINClassifier(batch_size=256, learning_rate=3e-3, max_iter=12, random_state=0)
p_own = din.fit(known, y[train]).predict_proba(rows)[:, 1]
p_both = din.fit(own_and_borrowed, y[train]).predict_proba(augmented)[:, 1]

has = borrowed > 0
clicked = y[test][has]
result = delong_test(clicked, p_both[has], p_own[has])
lower, upper = result.confidence_interval
print(f"{has.sum()} rows that borrowed something")
print(f"without: AUC {result.base_score:.3f}, log loss {log_loss(clicked, p_own[has]):.3f}")
print(f"with:    AUC {result.score:.3f}, log loss {log_loss(clicked, p_both[has]):.3f}")
print(f"difference {result.difference:+.3f}, 95 % interval {lower:+.3f} to {upper:+.3f}")

# %%
# The donors are the right ones. Whether the clicks are predicted better, so few rows can't tell:
# the interval is far wider than any gain that is to be expected.
# :ref:`sphx_glr_examples_plot_05_strategy.py` has enough rows for that.
