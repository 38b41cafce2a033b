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

X, y, truth = make_multimodal_ctr(n_users=400, n_items=400, random_state=3, return_truth=True)
train, _, test = leave_last_out(X)

aligned = make_pipeline(MultimodalEncoder(), SteinAligner(64, id_dim=32, random_state=0))
aligned.fit(X[train], y[train])
augmenter = SequenceRetrievalAugmenter(theta=0.2, n_neighbors=2, max_borrowed=8, low_quantile=0.4)
augmenter.fit(aligned.transform(X[train]))
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
# Left to right, as the model reads it: what was borrowed, with the similarity
# :math:`s_i` of each item (Eq. 16); the user's own history; and the item in question.
strip = [
    (f"from user {line.donor_id}", X.catalog.codes([line.item_id])[0], f"s = {line.similarity:.2f}", "C1")
    for line in explained.itertuples()
]
strip += [("own", item, "", "C0") for item in augmented.history.row(row)]
strip += [("shown now", augmented.target[row], "", "C2")]

fig, axes = plt.subplots(1, len(strip), figsize=(1.25 * len(strip), 2.1), layout="constrained")
for ax, (whose, item, note, color) in zip(axes, strip):
    ax.imshow(X.catalog.content["image"][item], interpolation="bicubic")
    ax.set_title(whose, fontsize=8, color=color)
    ax.set_xlabel(f"{X.catalog.titles[item]}\n{note}", fontsize=8)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color=color, linewidth=3)
plt.show()

# %%
# Was it a good donor?
# --------------------
# Here the truth is planted: users of one group like the same factors. A donor is right if the group is.
group = dict(zip(X.users, truth.group))
everything = augmenter.explain(rows)
pairs = everything.drop_duplicates(["row", "donor_id"])
same = pairs["user_id"].map(group) == pairs["donor_id"].map(group)
print(f"{same.mean():.0%} of {len(pairs)} pairs are of one group; by chance it would be 1 in 8.")
