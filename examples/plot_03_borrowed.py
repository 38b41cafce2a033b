"""
What a low-active user borrowed
===============================

Every borrowed item has a story: which donor it came from, how alike the two users are, and how well
the item fits. ``explain`` tells it as a table; covers tell it at a glance.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline

from skmars import (
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)
from skmars.plotting import HistoryDisplay

X, y, truth = make_multimodal_ctr(n_users=300, n_items=300, random_state=3, return_truth=True)
train, _, test = leave_last_out(X)

aligned = make_pipeline(
    MultimodalEncoder(), SteinAligner(64, id_dim=32, max_iter=5, random_state=0)
)
augmenter = SequenceRetrievalAugmenter(theta=0.2, n_neighbors=2, max_borrowed=8, low_quantile=0.4)
augmenter.fit(aligned.fit_transform(X[train], y[train]))
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
HistoryDisplay.from_estimator(augmenter, rows, row=row, max_borrowed=8)
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
