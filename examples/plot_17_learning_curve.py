"""
How much data does the pipeline need?
=====================================

A young shop has few users. From how many users on does the pipeline predict clicks better than
DIN on ids?
"""

# %%
# A draw of users
# ---------------
# :func:`~sklearn.model_selection.learning_curve` trains on the first rows of a split: a tenth,
# three tenths, all. The rows stand user after user, so that the first rows are those of a few
# users. Three times we draw three quarters of the users, in random order. All models are trained on
# impressions of the first seventy percent of the period, and tested on the later ones of all users.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import t
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import LearningCurveDisplay, learning_curve

from skmars import DINClassifier, make_mars, make_multimodal_ctr, time_split

X, y = make_multimodal_ctr(n_users=260, n_items=250, random_state=0)
early, late = time_split(X, 0.7)
splits = []
for draw in range(3):
    place = np.random.RandomState(draw).permutation(len(X.users))[X.user[early]]
    drawn = early[np.argsort(place, kind="stable")]
    splits.append((drawn[np.sort(place) < 0.75 * len(X.users)], late))
n_rows = min(len(train) for train, _ in splits)
sizes = [n_rows // 10, 3 * n_rows // 10, n_rows]

# %%
# Two curves
# ----------
# Both models learn at twice the usual rate, and the aligner, which only has to make item factors
# here, is tiny: so the page is built in seconds.
models = {
    "DIN": DINClassifier(learning_rate=0.002, random_state=0),
    "pipeline": make_mars(
        random_state=0,
        align__n_components=16,
        align__id_dim=16,
        align__max_iter=1,
        ctr__learning_rate=0.002,
    ),
}
auc, losses = {}, {name: [] for name in models}
for name, model in models.items():

    def score(fitted, rows, clicked, losses=losses[name]):
        """Return the AUC, and note the log loss."""
        p = fitted.predict_proba(rows)[:, 1]
        losses.append(log_loss(clicked, p))
        return roc_auc_score(clicked, p)

    curve = learning_curve(model, X, y, cv=splits, train_sizes=sizes, scoring=score)
    auc[name] = curve[2]
    # Test rows are scored first, then training rows; one split after another.
    losses[name] = np.reshape(losses[name][::2], (len(splits), len(sizes))).T

# %%
# Users say more than rows. Differences are paired by draw, with the interval of a t test: it tells
# how much the draw of the users to train on matters. The test rows are the same for all.
n_users = np.array([[len(np.unique(X.user[rows[:n]])) for rows, _ in splits] for n in sizes])
difference = auc["pipeline"] - auc["DIN"]
half = t.ppf(0.975, len(splits) - 1) * difference.std(axis=1, ddof=1) / len(splits) ** 0.5
gain = difference.mean(axis=1)
table = pd.DataFrame({"users": n_users.mean(axis=1).round().astype(int), "rows": sizes})
for name in models:
    table[f"AUC {name}"] = auc[name].mean(axis=1)
for name in models:
    table[f"log loss {name}"] = losses[name].mean(axis=1)
table["gain in AUC"], table["lower"], table["upper"] = gain, gain - half, gain + half
print(table.round(3).to_string(index=False))

# %%
# The number of users has a logarithmic scale; bars are standard deviations of the draws.
fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
looks = {
    "DIN": {"color": "#D55E00", "marker": "o", "linestyle": ":"},
    "pipeline": {"color": "#0072B2", "marker": "^", "linestyle": "-"},
}
for name, look in looks.items():
    LearningCurveDisplay(
        train_sizes=table["users"].to_numpy(),
        train_scores=auc[name],
        test_scores=auc[name],
        score_name="AUC of later impressions",
    ).plot(ax, score_type="test", std_display_style="errorbar", errorbar_kw=look | {"capsize": 3})
ax.set_xscale("log")
ax.set_xticks(table["users"], table["users"])
ax.minorticks_off()
ax.set(xlabel="users to train on", ylim=(0.45, 1))
ax.legend(ax.containers, looks, loc="upper left")
plt.show()

# %%
# The answer
# ----------
for line in table.itertuples(index=False):
    verdict = (
        "pays" if line.lower > 0 else "costs" if line.upper < 0 else "makes no clear difference"
    )
    print(f"{line.users} users: the pipeline {verdict}")

# %%
# With the fewest users both models know little, and nobody resembles anybody: there is nothing to
# borrow. Every further user is one more who may be a look-alike, so that the pipeline learns faster
# than DIN, which has to see an item often before it knows its id. With all the users drawn here the
# pipeline pays, and DIN has not caught up.
#
# Where the curves part depends on the data. In these, users of a group share a taste; the more
# groups there are, the more users it takes. On your own rows: the same call of ``learning_curve``.
