"""
Who gains?
==========

Look-alikes are meant to help users who have hardly done anything yet. Do they, and what becomes of
the users with long histories?
"""

# %%
# Three models, one split
# -----------------------
# All are trained on the first three quarters of the impressions and tested once, on the last
# quarter. Nothing was chosen on these test rows: DIN holds out some of the training rows to stop
# early.
#
# "DIN + factors" reads item factors and borrows nothing; it tells what part of a gain is due to
# factors, and what part to look-alikes. (The aligner makes the factors. The models here need it for
# nothing else, so that it can be small.)
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline

from skmars import DINClassifier, SteinAligner, make_mars, make_multimodal_ctr, time_split
from skmars.plotting import ActivityAUCDisplay

X, y = make_multimodal_ctr(n_users=700, n_items=400, random_state=0)
train, test = time_split(X, 0.75)
tiny = {"n_components": 16, "id_dim": 16, "max_iter": 1}
factors = SteinAligner(modalities=(), random_state=0, **tiny)
models = {
    "DIN": DINClassifier(random_state=0),
    "DIN + factors": Pipeline([("align", factors), ("ctr", DINClassifier(random_state=0))]),
    "pipeline": make_mars(random_state=0, **{f"align__{k}": v for k, v in tiny.items()}),
}
probability = {}
for name, model in models.items():
    probability[name] = model.fit(X[train], y[train]).predict_proba(X[test])[:, 1]
    auc, loss = roc_auc_score(y[test], probability[name]), log_loss(y[test], probability[name])
    print(f"{name:14} AUC {auc:.3f}  log loss {loss:.3f}  ({len(test)} test rows)")

# %%
# By length of history
# --------------------
# :class:`~skmars.plotting.ActivityAUCDisplay` divides the test rows into parts of about equal size,
# from short histories to long ones.
length = X.history.length[test]
looks = {
    "DIN": {"color": "#D55E00", "marker": "o", "linestyle": ":"},
    "DIN + factors": {"color": "#009E73", "marker": "s", "linestyle": "--"},
    "pipeline": {"color": "#0072B2", "marker": "^", "linestyle": "-"},
}
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
for name, look in looks.items():
    display = ActivityAUCDisplay.from_predictions(
        y[test], probability[name], length, n_bins=4, name=name, ax=ax, **look
    )
ax.set_ylim(0.48, 1)
plt.show()

# %%
# Is the difference more than luck?
# ---------------------------------
# The intervals above are those of each model. Two models see the same rows, so their *difference*
# is more certain than that. A bootstrap tells how certain: users are drawn with replacement, each
# with all test rows, and both models are scored on the same draw.
group = np.searchsorted(display.highest, length)
users, code = np.unique(X.user_ids[test], return_inverse=True)
rng = np.random.RandomState(0)
draws = rng.multinomial(len(users), np.full(len(users), 1 / len(users)), size=200)
pairs = [("pipeline", "DIN"), ("pipeline", "DIN + factors")]

lines = []
for part, (first, last) in enumerate(zip(display.lowest, display.highest)):
    rows = group == part
    auc, drawn = {}, {}
    for name in models:
        scored = y[test][rows], probability[name][rows]
        auc[name] = roc_auc_score(*scored)
        drawn[name] = np.array(
            [roc_auc_score(*scored, sample_weight=draw) for draw in draws[:, code[rows]]]
        )
    for name, base in pairs:
        low, high = np.quantile(drawn[name] - drawn[base], [0.025, 0.975])
        lines.append([f"{first}–{last}", f"over {base}", auc[name] - auc[base], low, high])
gain = pd.DataFrame(lines, columns=["history", "gain", "AUC", "lower", "upper"])
print(gain.round(3).to_string(index=False))

# %%
# What the pipeline gains over each of the two others, with the 95 % intervals of the bootstrap. An
# interval above the dotted line is a gain that these users can tell from luck.
fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
for (_, base), shift in zip(pairs, (-0.1, 0.1)):
    mine = gain[gain["gain"] == f"over {base}"]
    error = [mine["AUC"] - mine["lower"], mine["upper"] - mine["AUC"]]
    style = {"color": looks[base]["color"], "fmt": looks[base]["marker"], "capsize": 3}
    ax.errorbar(np.arange(len(mine)) + shift, mine["AUC"], error, label=f"over {base}", **style)
ax.axhline(0, color="0.5", linestyle=":")
ax.set_xticks(range(len(mine)), mine["history"])
ax.set(xlabel="items in the history", ylabel="gain of the pipeline in AUC")
fig.legend(loc="outside upper center", ncols=2)
plt.show()

# %%
# The answer
# ----------
for base in ("DIN", "DIN + factors"):
    mine = gain[gain["gain"] == f"over {base}"]
    better = mine.loc[mine["lower"] > 0, "history"].to_list()
    worse = mine.loc[mine["upper"] < 0, "history"].to_list()
    print(f"pipeline over {base}: better for {better}, worse for {worse}")

# %%
# Users with short histories gain most, and that is what look-alikes are for. Part of it is the gain
# of item factors; beyond these, look-alikes help most where histories are shortest, and least where
# they are longest. There DIN with factors is about as good, and simpler.
#
# One draw is not the world, and these
# data are made with look-alikes in mind. Ask your own rows: ``compare``
# (:ref:`sphx_glr_examples_plot_12_compare.py`) tests such models on all rows, and on those of
# low-active users.
