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
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import FunctionTransformer

from skmars import DINClassifier, MultimodalEncoder, leave_last_out, make_multimodal_ctr
from skmars.metrics import delong_test


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
X, y = make_multimodal_ctr(n_users=2300, n_items=400, mean_length=12, random_state=0)
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

fig, axes = plt.subplots(len(queries), 6, figsize=(5, 0.9 * len(queries)), layout="constrained")
for ax, item in zip(axes.flat, nearest.flat):
    ax.imshow(X.catalog.content["image"][item], interpolation="bicubic")
    ax.axis("off")
axes[0, 0].set_title("query", fontsize=10)
plt.show()

# %%
# Does it predict clicks?
# -----------------------
# Looking alike is not the aim. A classifier reads the colours of the items; 300 users train it, and
# the last rows of 2,000 others are the test. The control reads colours that were dealt to the wrong
# items: what it can do, ids alone can do.
train = np.flatnonzero(X.user < 300)
test = leave_last_out(X)[2]
test = test[(X.user[test] >= 300) & (X.history.length[test] > 0)]
wrong = catalog.with_features({"image": np.random.default_rng(0).permutation(vectors)})
p = {}
for name, each in {"wrong colours": wrong, "colours": catalog}.items():
    rows = X.with_catalog(each)
    din = DINClassifier(
        item_features=["image"], batch_size=256, learning_rate=3e-3, max_iter=12, random_state=0
    )
    p[name] = din.fit(rows[train], y[train]).predict_proba(rows[test])[:, 1]
    result = delong_test(y[test], p[name], p["wrong colours"])
    lower, upper = result.confidence_interval
    print(f"{name:15} AUC {result.score:.3f}, log loss {log_loss(y[test], p[name]):.3f}", end="")
    print(f", {result.difference:+.3f} ({lower:+.3f} to {upper:+.3f})" if each is not wrong else "")

# %%
# The encoder sees what matters here: with the colours of the items themselves, the clicks are
# predicted better than with those of others.
#
# A class is needed where an encoder learns from the contents: derive from ``TransformerMixin`` and
# ``BaseEstimator``, keep the parameters in ``__init__``, learn in ``fit``. A model with pretrained
# weights needs no code at all, see :doc:`/guide/encoders`.
