"""
Text and picture meet in the aligned space
==========================================

Texts and pictures of the same items have vectors of different lengths and meanings. The aligner
maps both into one space in which the two vectors of an item are neighbours.
"""

# %%
# Two views of the same items
# ---------------------------
# On a plain array whose columns are two blocks, :class:`~skmars.alignment.SteinAligner` works on
# the alignment loss :math:`L_{Stein}` alone, as :class:`~sklearn.cross_decomposition.CCA` would
# be used. No clicks, no users. A quarter of the items is held out.
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from skmars import MultimodalEncoder, SteinAligner, make_multimodal_ctr

X, _, truth = make_multimodal_ctr(n_items=800, n_factors=6, random_state=0, return_truth=True)
catalog = MultimodalEncoder().fit_transform(X).catalog
text, image = catalog.features["text"], catalog.features["image"]
print(text.shape, image.shape)

blocks = np.hstack([text, image])
held_out = np.arange(600, 800)
aligner = SteinAligner(
    16, modalities=[text.shape[1], image.shape[1]], lam=0.05, max_iter=100, random_state=0
)
aligner.fit(blocks[:600])

# %%
# Before and after
# ----------------
# Before: the 16 first principal components of each view. After: each view as the aligner projects
# it.
before = [normalize(PCA(16).fit(view[:600]).transform(view)) for view in (text, image)]
after = aligner.encoder_.embed_views(blocks)

# %%
# A text finds its picture if that is among the five nearest of the 200 held-out pictures. Lines
# join the text and the picture of one item; colours are the main factor of the items, which no
# fit has seen.
factor = truth.item_factors.argmax(axis=1)[held_out]
fig, axes = plt.subplots(2, 1, figsize=(5, 9), layout="constrained")
for ax, name, views in zip(axes, ("before", "after"), (before, after)):
    a, b = (view[held_out] for view in views)
    cosine = a @ b.T
    own = np.diag(cosine)
    found = np.mean((cosine > own[:, None]).sum(axis=1) < 5)
    matched = np.eye(len(held_out), dtype=bool)
    print(f"{name:6}: pairs of one item against all others, AUC", end=" ")
    print(f"{roc_auc_score(matched.ravel(), cosine.ravel()):.3f}, found {found:.0%}, chance 2.5%")
    plane = PCA(2).fit(np.vstack([a, b]))
    a, b = plane.transform(a), plane.transform(b)
    ax.add_collection(LineCollection(np.stack([a, b], axis=1), colors="0.8", linewidths=0.5))
    ax.scatter(*a.T, c=factor, cmap="Dark2", s=22, marker="o", label="text")
    ax.scatter(*b.T, c=factor, cmap="Dark2", s=22, marker="^", label="picture")
    ax.set_title(f"{name}: {found:.0%} of the texts have\ntheir picture among the nearest five")
    ax.set(xticks=[], yticks=[])
axes[0].legend()
plt.show()

# %%
# Without the colours, one line does it: ``AlignedSpaceDisplay.from_estimator(aligner, blocks)``,
# see :class:`~skmars.plotting.AlignedSpaceDisplay`.
#
# How it went
# -----------
# The loss is :math:`-L_{align} - \lambda H`: it falls while matched pairs come together and all
# items spread. ``effective_rank_`` says how many of the 16 dimensions are in use; the sign of the
# entropy that the paper prints contracts the space instead.
paper = clone(aligner).set_params(entropy="paper").fit(blocks[:600])

fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name, fitted, color, line in (
    ("maximize", aligner, "#0072B2", "-"),
    ("paper", paper, "#D55E00", "--"),
):
    label = f'entropy="{name}":\neffective rank {fitted.effective_rank_:.1f}'
    ax.plot(fitted.loss_curve_, color=color, linestyle=line, label=label)
ax.set(xlabel="epoch", ylabel="loss")
ax.legend()
plt.show()
