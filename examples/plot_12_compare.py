"""
Which model suits my shop?
==========================

Before a network goes into a shop it should beat what a table of counts can do. ``compare`` asks
that question on your own rows, ``time_split`` and ``ranking_scorer`` ask it as the shop would:
tomorrow, and for the top of the list.
"""

# %%
# A shop
# ------
# Users and items of :func:`~skmars.datasets.make_small_shop` have click rates, and hardly any
# look-alikes. A category for each item, one of its attributes, costs one line.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import cross_validate

from skmars import (
    ClickRateClassifier,
    PopularityClassifier,
    TimeSplit,
    compare,
    make_mars,
    make_small_shop,
)
from skmars.model_selection import ranking_scorer

X, y = make_small_shop(n_users=400, random_state=0)
category = np.where(np.arange(len(X.catalog)) % 2, "toys", "books")
X = X.with_catalog(X.catalog.with_attributes({"category": category}))

# %%
# The same rows for all
# ---------------------
# Popularity and click rates take milliseconds. MARS is made small here, so that the page is built
# in seconds; ``compare(X, y)`` alone fits the defaults, and DIN with and without item factors.
small = make_mars(
    random_state=0, align__n_components=32, align__id_dim=16, align__max_iter=3, ctr__max_iter=15
)
result = compare(X, y, models={"DIN": None, "DIN + factors": None, "MARS": small}, random_state=0)
print(result)

# %%
# The intervals tell how much a few hundred test rows can say.
table = result.table
fig, ax = plt.subplots(figsize=(5, 2.5), layout="constrained")
error = [table["auc"] - table["auc_lower"], table["auc_upper"] - table["auc"]]
ax.errorbar(table["auc"], table["model"], xerr=error, fmt="o", color="#0072B2", capsize=4)
ax.axvline(0.5, color="black", linewidth=1, linestyle=":")
ax.set(xlabel="AUC of each user's last impression", title="95 % intervals")
ax.margins(y=0.3)
ax.invert_yaxis()
plt.show()

# %%
# Tomorrow, and the top of the list
# ---------------------------------
# ``TimeSplit`` trains on what came before a moment and tests on what came after it, for all users
# alike. ``ranking_scorer`` ranks the rows of each user in the test part, and asks for the first
# three.
for model in (PopularityClassifier(), ClickRateClassifier()):
    scores = cross_validate(
        model, X, y, cv=TimeSplit(n_splits=3), scoring=ranking_scorer("ndcg", k=3)
    )["test_score"]
    print(f"{type(model).__name__:22} NDCG@3 {scores.mean():.3f} ({scores.min():.3f} at least)")
