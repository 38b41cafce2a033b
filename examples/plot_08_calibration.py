"""
Trained on a part of the rows: are the probabilities right?
===========================================================

Logs hold many impressions without a click, and to save time one often trains on all clicks and a
part of the rest. The model then predicts too many clicks. This page repairs the probabilities in
two ways, tests the repair, and asks what a threshold earns with and without it.
"""

# %%
# A fifth of the impressions without a click
# ------------------------------------------
# 800 users train the model. The last rows of 3,000 others are for the repair, those of 3,000 more
# are the test. Nothing is left out of these.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score

from skmars import leave_last_out, make_mars, make_multimodal_ctr
from skmars.model_selection import correct_probability

X, y = make_multimodal_ctr(n_users=6800, n_items=300, mean_length=12, random_state=0)
rng = np.random.default_rng(0)
share = 0.2
train = np.flatnonzero((X.user < 800) & ((y == 1) | (rng.random(len(y)) < share)))
last = leave_last_out(X)[2]
valid = last[(X.user[last] >= 800) & (X.user[last] < 3800)]
test = last[X.user[last] >= 3800]
print(f"clicked: {y[train].mean():.0%} of {len(train)} training rows,", end=" ")
print(f"{y[test].mean():.0%} of {len(test)} test rows")

mars = make_mars(
    random_state=0,
    align__n_components=32,
    align__id_dim=16,
    align__max_iter=1,
    ctr__batch_size=256,
    ctr__learning_rate=3e-3,
    ctr__max_iter=10,
)
mars.fit(X[train], y[train])

# %%
# Two repairs
# -----------
# :func:`~skmars.model_selection.correct_probability` needs no rows, but the share that was kept.
# :class:`~sklearn.calibration.CalibratedClassifierCV` learns the correction from rows of which
# nothing was left out; :class:`~sklearn.frozen.FrozenEstimator` keeps the fitted model as it is.
calibrated = CalibratedClassifierCV(FrozenEstimator(mars), method="isotonic", ensemble=False)
calibrated.fit(X[valid], y[valid])

raw = mars.predict_proba(X[test])[:, 1]
p = {
    "as trained": raw,
    "by formula": correct_probability(raw, share),
    # No rate that some hundred rows suggest is 0 or 1 for certain.
    "calibrated": calibrated.predict_proba(X[test])[:, 1].clip(0.005, 0.995),
}

# %%
# The formula keeps the order of the rows, and so the AUC; isotonic calibration changes it by ties
# only. What changes is the log loss. A bootstrap of the test rows gives the interval of a
# difference.
draws = rng.integers(0, len(test), (1000, len(test)))


def interval(values):
    """Return the mean of one value a row, and its 95 % interval."""
    return values.mean(), *np.quantile(values[draws].mean(axis=1), [0.025, 0.975])


def loss(name):
    """Return the log loss of each row."""
    return -np.log(np.where(y[test] == 1, p[name], 1 - p[name]))


for name, each in p.items():
    print(f"{name:11} AUC {roc_auc_score(y[test], each):.3f}", end=", ")
    print(f"log loss {log_loss(y[test], each):.3f}", end=", ")
    print(f"mean probability {each.mean():.3f} (clicked: {y[test].mean():.3f})")
for name in ("by formula", "calibrated"):
    print(
        "log loss, {} - as trained: {:+.3f} ({:+.3f} to {:+.3f})".format(
            name, *interval(loss(name) - loss("as trained"))
        )
    )
print(
    "log loss, calibrated - by formula: {:+.4f} ({:+.4f} to {:+.4f})".format(
        *interval(loss("calibrated") - loss("by formula"))
    )
)

# %%
# Ten groups of equal size, by probability: a point on the line is right, and the bars are 95 %
# intervals of the share of clicks.
fig, ax = plt.subplots(figsize=(5, 4.8), layout="constrained")
ax.plot([0, 1], [0, 1], color="black", linestyle=":", label="right")
looks = {
    "as trained": ("#D55E00", "s"),
    "by formula": ("#009E73", "^"),
    "calibrated": ("#0072B2", "o"),
}
for name, (color, marker) in looks.items():
    groups = np.array_split(np.argsort(p[name]), 10)
    predicted = [p[name][group].mean() for group in groups]
    clicked = np.array([y[test][group].mean() for group in groups])
    error = 1.96 * np.sqrt(clicked * (1 - clicked) / [len(group) for group in groups])
    ax.errorbar(
        predicted,
        clicked,
        yerr=error,
        color=color,
        marker=marker,
        linewidth=1,
        capsize=3,
        label=name,
    )
ax.set(xlabel="predicted", ylabel="clicked, test rows")
ax.legend()
plt.show()

# %%
# What a threshold earns
# ----------------------
# Say that showing an item costs 1 and a click earns 2. Then it is worth showing where the
# probability is above one half: a rule that only right probabilities can follow.


def earned(name):
    """Return what showing by this rule earns, for each row."""
    return (p[name] > 0.5) * (2 * y[test] - 1)


for name in p:
    print(
        "{:11} {:5.1f} per 100 impressions ({:.1f} to {:.1f})".format(
            name, *(100 * each for each in interval(earned(name)))
        )
    )
for name in ("by formula", "calibrated"):
    print(
        "{} - as trained: {:+.1f} ({:+.1f} to {:+.1f})".format(
            name, *(100 * each for each in interval(earned(name) - earned("as trained")))
        )
    )

# %%
# As trained, the model is right about the order of the items and wrong about their probabilities,
# so that a bid or a threshold that relies on them loses money. Either repair mends that. The
# formula needs no rows and mends the share that was left out, nothing else: its points still bend
# around the line. Calibration needs a few thousand rows, and mends the bend, too.
