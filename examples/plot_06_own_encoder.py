"""
Your own encoder in ten lines
=============================

An encoder is a scikit-learn transformer whose rows are contents: strings for ``"text"``, RGB
pictures for ``"image"``, whatever the column holds for any other modality. It returns one vector
a content.
"""

# %%
# Ten lines
# ---------
# Which colours does a picture have? A coarse histogram knows. The transformer learns nothing from
# data, so that :class:`~sklearn.preprocessing.FunctionTransformer` is all it takes.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import FunctionTransformer

from skmars import MultimodalEncoder, make_multimodal_ctr


def color_histogram(pictures, bins=4):
    """Return the share of each of bins³ colours, one row a picture."""
    rows = []
    for picture in pictures:
        pixels = np.asarray(picture, dtype=int).reshape(-1, 3) * bins // 256
        code = pixels @ [bins * bins, bins, 1]
        rows.append(np.bincount(code, minlength=bins**3) / len(code))
    return np.sqrt(rows)


colors = FunctionTransformer(color_histogram)

# %%
# It takes the place of the default encoder of pictures. Every distinct picture is encoded once,
# and a changed parameter of your encoder means new vectors, because the cache goes by both.
X, _ = make_multimodal_ctr(n_users=100, n_items=400, random_state=0)
encoder = MultimodalEncoder({"image": colors}).fit(X)
catalog = encoder.transform(X).catalog
catalog

# %%
# Does it see what we see?
# ------------------------
# The first picture of each row, and the five whose vectors are nearest.
vectors = catalog.features["image"]
queries = [0, 1, 2, 5]
nearest = NearestNeighbors(n_neighbors=6).fit(vectors).kneighbors(vectors[queries])[1]

fig, axes = plt.subplots(len(queries), 6, figsize=(8, 1.4 * len(queries)), layout="constrained")
for ax, item in zip(axes.flat, nearest.flat):
    ax.imshow(X.catalog.content["image"][item], interpolation="bicubic")
    ax.axis("off")
axes[0, 0].set_title("query", fontsize=10)
plt.show()

# %%
# A class is needed where an encoder learns from the contents: derive from ``TransformerMixin`` and
# ``BaseEstimator``, keep the parameters in ``__init__``, learn in ``fit``. A model with pretrained
# weights needs no code at all, see :doc:`/guide/encoders`.
