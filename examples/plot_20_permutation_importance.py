"""
What does the model rely on?
============================

Shuffle one input among the test rows, and see how much worse the model becomes: that is permutation
importance. scikit-learn's :func:`~sklearn.inspection.permutation_importance` shuffles columns of
an array or a frame; histories and borrowed items are no columns, but a few lines shuffle them as
well.
"""

# %%
# A world whose inputs are known
# ------------------------------
# Two context columns are added to generated impressions. ``discount`` raises the log-odds of a
# click by two. ``dice`` is the control: it says nothing, so that its importance must be zero.
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit, logit
from sklearn.metrics import log_loss, roc_auc_score

from skmars import Impressions, leave_last_out, make_mars, make_multimodal_ctr

generated, _, truth = make_multimodal_ctr(
    n_users=2900, n_items=300, mean_length=12, random_state=0, return_truth=True
)
rng = np.random.default_rng(0)
log = generated.to_frame("pandas")[["user_id", "item_id", "timestamp"]]
log["discount"] = rng.integers(0, 2, len(log)).astype(float)
log["dice"] = rng.integers(1, 7, len(log)).astype(float)
p_click = expit(logit(truth.click_probability) + 2 * log["discount"] - 1)
log["clicked"] = (rng.random(len(log)) < p_click).astype(int)
X, y = Impressions.from_log(log, generated.catalog, label="clicked", context=["discount", "dice"])

# %%
# 400 users train the model. The test rows are the last ones of 2,500 others: importance is about
# what helps on new rows, not about what a model has learnt by heart.
train = np.flatnonzero(X.user < 400)
test = leave_last_out(X)[2]
test = test[(X.user[test] >= 400) & (X.history.length[test] > 0)]
mars = make_mars(
    random_state=0,
    align__n_components=32,
    align__id_dim=16,
    align__max_iter=1,
    augment__theta=-1.0,
    augment__n_neighbors=5,
    augment__max_borrowed=40,
    ctr__batch_size=256,
    ctr__learning_rate=3e-3,
    ctr__max_iter=12,
)
mars.fit(X[train], y[train])
p = mars.predict_proba(X[test])[:, 1]
auc = roc_auc_score(y[test], p)
print(f"{len(test)} test rows, AUC {auc:.3f}, log loss {log_loss(y[test], p):.3f}")

# %%
# Two doors
# ---------
# An input can be shuffled before the whole pipeline, or before the classifier. A history that is
# shuffled at the first door takes along all that is made of it: look-alikes are then those of
# another user. At the second door, one input is shuffled and the others stay.
rows, prepared = X[test], mars[:-1].transform(X[test])
print("context of the prepared rows:", *prepared.context)
lookalike = [name for name in prepared.context if name not in ("discount", "dice")]


def context(names):
    """Return a function that shuffles these context columns together."""
    return lambda X, order: replace(
        X, context={k: v[order] if k in names else v for k, v in X.context.items()}
    )


doors = {
    "history, before all": (mars, rows, lambda X, o: replace(X, history=X[o].history)),
    "item shown, before all": (mars, rows, lambda X, o: replace(X, target=X.target[o])),
    "own history": (mars[-1], prepared, lambda X, o: replace(X, history=X[o].history)),
    "borrowed items": (mars[-1], prepared, lambda X, o: X.with_borrowed(X[o].borrowed)),
    "look-alike features": (mars[-1], prepared, context(lookalike)),
    "discount": (mars[-1], prepared, context(["discount"])),
    "dice (control)": (mars[-1], prepared, context(["dice"])),
}

# %%
# Five shuffles, and intervals
# ----------------------------
# The loss of AUC depends on the shuffle and on the test rows. Each of 200 bootstrap samples of
# the rows is therefore scored with one of the five shuffles, so that the interval holds both.


def importance(model, X, shuffled, n_repeats=5):
    """Return the mean loss of AUC, and its 95 % interval."""
    rng = np.random.default_rng(0)
    worse = [
        model.predict_proba(shuffled(X, rng.permutation(len(X))))[:, 1] for _ in range(n_repeats)
    ]
    losses = []
    for i in range(200):
        b = rng.integers(0, len(X), len(X))
        losses.append(
            roc_auc_score(y[test][b], p[b]) - roc_auc_score(y[test][b], worse[i % n_repeats][b])
        )
    mean = auc - np.mean([roc_auc_score(y[test], each) for each in worse])
    return mean, *np.quantile(losses, [0.025, 0.975])


found = {name: importance(*door) for name, door in doors.items()}
for name, (mean, lower, upper) in found.items():
    print(f"{name:23} {mean:+.3f} ({lower:+.3f} to {upper:+.3f})")

# %%
fig, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
for i, (name, (mean, lower, upper)) in enumerate(found.items()):
    color, marker = ("#D55E00", "s") if "before all" in name else ("#0072B2", "o")
    ax.plot([lower, upper], [i, i], color=color, linewidth=2)
    ax.plot(mean, i, marker, color=color, markersize=8)
ax.axvline(0, color="black", linewidth=1, linestyle=":")
ax.set(yticks=range(len(found)), yticklabels=found, xlabel="loss of AUC (95 % interval)")
ax.margins(y=0.1)
ax.invert_yaxis()
plt.show()

# %%
# Without the right history, the model knows nothing of a user; without the right item, hardly more.
# Behind the first door, own history, borrowed items and look-alike features each tell a part, and
# as they tell the same in part, each can be replaced to some extent by the others: their
# importances do not add up to that of the history. The discount is used, and the dice are ignored,
# as they should be.
#
# Importance is about this model. What a model without a step would be, only a fit without it can
# tell.
