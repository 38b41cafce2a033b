"""
Items that nobody has touched yet
=================================

New items arrive, and no user has clicked them. Does a model know anything about them before the
first click?
"""

# %%
# A catalogue that grows overnight
# --------------------------------
# Two fifths of the items, drawn at random, arrive at one moment: whatever happened to them before
# is taken out of the log. After that moment users are shown old and new items alike.
#
# :func:`~skmars.model_selection.freeze_histories` leaves the histories as they were when the new
# items arrived, so that no test row knows of a click on any of them.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import log_loss

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    make_mars,
    make_multimodal_ctr,
    time_split,
)
from skmars.metrics import delong_test
from skmars.model_selection import freeze_histories

everything, clicked, truth = make_multimodal_ctr(
    n_users=600, n_items=300, random_state=0, return_truth=True
)
catalog = everything.catalog
is_new = np.random.RandomState(0).uniform(size=len(catalog)) < 0.4
log = pd.DataFrame(
    {
        "user_id": everything.user_ids,
        "item_id": everything.item_ids,
        "timestamp": everything.time,
        "clicked": clicked,
        "probability": truth.click_probability,
    }
)
arrival = log["timestamp"].quantile(0.7)
log = log[(log["timestamp"] >= arrival) | ~is_new[everything.target]]
planted = log.pop("probability").to_numpy()

X, y = Impressions.from_log(log, catalog, label="clicked")
train, test = time_split(X, arrival)
X_test, y_test = freeze_histories(X[test], arrival), y[test]
new = is_new[X_test.target]
print(f"{len(train)} rows to train on, none of them of a new item")
print(f"{new.sum()} test rows of new items, {(~new).sum()} of old ones")

# %%
# Three models
# ------------
# DIN on ids has one embedding for all items that it has never seen. The pipeline predicts the item
# factors of a new item from its text and picture, by a regression over the items that users know.
#
# If that is where a gain comes from, then the same pipeline must lose it when every item has the
# text and the picture of another one. That is the third model.
shuffled = np.random.RandomState(1).permutation(len(catalog))
wrong = ItemCatalog(
    catalog.ids, content={name: column[shuffled] for name, column in catalog.content.items()}
)
small = {"align__n_components": 32, "align__id_dim": 16, "align__max_iter": 3}
models = {
    "DIN on ids": (DINClassifier(random_state=0), catalog),
    "pipeline": (make_mars(random_state=0, **small), catalog),
    "pipeline,\nshuffled\ncontent": (make_mars(random_state=0, **small), wrong),
}
probability = {}
for name, (model, items) in models.items():
    model.fit(X[train].with_catalog(items), y[train])
    probability[name] = model.predict_proba(X_test.with_catalog(items))[:, 1]

# %%
# Scores
# ------
# The last line is the best that can be done: the probabilities by which the clicks were drawn.
# The question is about items, so rows of one item count as dependent in all intervals.
probability["best possible"] = planted[test]


def paired(rows, name, base=None):
    """Compare two models on some test rows; without a base, one model with a constant."""
    other = np.zeros(rows.sum()) if base is None else probability[base][rows]
    items = X_test.item_ids[rows]
    return delong_test(y_test[rows], probability[name][rows], other, users=items)


parts = {"new items": new, "old items": ~new}
lines = []
for part, rows in parts.items():
    for name, p in probability.items():
        found = paired(rows, name)
        low, high = np.add(0.5, found.confidence_interval)
        loss = log_loss(y_test[rows], p[rows])
        lines.append([part, name.replace("\n", " "), found.score, low, high, loss])
columns = ["rows", "model", "AUC", "lower", "upper", "log loss"]
table = pd.DataFrame(lines, columns=columns)
print(table.round(3).to_string(index=False))

# %%
# The same as a picture: new items as circles, old ones as squares. Where the two meet, a model
# knows of new items as much as of old ones.
fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
looks = {"new items": ("#D55E00", "o", 0.12), "old items": ("#0072B2", "s", -0.12)}
for part, (color, marker, shift) in looks.items():
    mine = table[table["rows"] == part]
    error = [mine["AUC"] - mine["lower"], mine["upper"] - mine["AUC"]]
    at = np.arange(len(mine)) + shift
    ax.errorbar(mine["AUC"], at, xerr=error, fmt=marker, color=color, capsize=3, label=part)
ax.axvline(0.5, color="0.5", linestyle=":")
ax.set_yticks(range(len(probability)), list(probability))
ax.invert_yaxis()
ax.set(xlabel="AUC, 95 % interval (dotted: chance)", xlim=(0.38, 1))
fig.legend(loc="outside upper center", ncols=2)
plt.show()

# %%
# The answer
# ----------
# Two models on the same rows: the interval of the difference is narrower than those in the picture.
for part, rows in parts.items():
    for base in list(models)[::2]:
        found = paired(rows, "pipeline", base)
        low, high = found.confidence_interval
        name = base.replace("\n", " ")
        print(f"{part}: pipeline - {name} {found.difference:+.3f} [{low:+.3f}, {high:+.3f}]")

# %%
# Yes. To DIN on ids all new items are one, and it ranks them hardly better than chance. The
# pipeline ranks them nearly as well as old ones, and it owes that to the content: with the texts
# and pictures of other items it ranks new items no better than chance, while old items, whose
# factors come from clicks, hardly suffer.
#
# Here texts and pictures say what users like, because the data are made so. Where yours say little,
# expect little: :ref:`sphx_glr_examples_plot_16_pretrained_encoders.py` compares two readers of one
# text. ``python -m benchmarks.new_items`` repeats the measurement with other draws of the data.
