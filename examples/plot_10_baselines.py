"""
Does any longer history help?
=============================

MARS makes short histories longer. Perhaps that alone is what helps, whatever is put in? The
baselines lengthen histories without look-alikes: by random items, by the user's own items once
more, by edited copies. They are steps that take the augmenter's place.
"""

# %%
# The same rows for all
# ---------------------
# 300 users train the models. The last rows of 1,000 others tell when training has to stop, and how
# to scale the probabilities. Those of 3,000 more are the test: so many, because differences are
# small.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmars import (
    DINClassifier,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)
from skmars.baselines import CropMaskReorder, RandomItems, RandomSequence, RepeatPad
from skmars.metrics import delong_test

X, y = make_multimodal_ctr(n_users=4300, n_items=300, mean_length=12, random_state=1)
train = np.flatnonzero(X.user < 300)
aligned = make_pipeline(
    MultimodalEncoder(), SteinAligner(32, id_dim=16, max_iter=1, random_state=0)
)
known = aligned.fit_transform(X[train], y[train])

last = leave_last_out(X)[2]
threshold = SequenceRetrievalAugmenter().fit(known).low_threshold_
length = X.history.length[last]
low = last[(X.user[last] >= 300) & (length >= 1) & (length <= threshold)]
valid, test = low[X.user[low] < 1300], low[X.user[low] >= 1300]
X_valid, X_test = aligned.transform(X[valid]), aligned.transform(X[test])
print(
    f"{len(valid)} validation and {len(test)} test rows of users with 1 to {threshold:.0f} clicks"
)

# %%
# One step is exchanged
# ---------------------
# A baseline rewrites training histories (``fit_transform``) and leaves those to predict as they
# are (``transform``). The augmenter of MARS acts in both: training rows borrow from users of other
# folds, like scikit-learn's :class:`~sklearn.preprocessing.TargetEncoder`. It stands here twice:
# with borrowed items alone, as the baselines have nothing else, and with the look-alike features
# that it adds by default.
#
# As baselines lengthen histories in training alone, the classifier must not read lengths, and it is
# given validation rows: those that it would hold out itself have rewritten histories. That is the
# same for all.
mars = SequenceRetrievalAugmenter("kth", n_neighbors=5, max_borrowed=40)
steps = {
    "random items (Ran)": RandomItems(random_state=0),
    "own items again (Ran-S)": RandomSequence(random_state=0),
    "repeated (RepPad)": RepeatPad(max_length=50, random_state=0),
    "edited (CMR)": CropMaskReorder(random_state=0),
    "MARS, borrowed items": clone(mars).set_params(n_lookalikes=0),
    "MARS, look-alikes, too": mars,
}


def clicks(step):
    """Fit with this step, and return the probabilities of the test rows."""
    din = DINClassifier(
        activity_feature=False, batch_size=256, learning_rate=3e-3, max_iter=10, random_state=0
    )
    rows = step.fit_transform(known, y[train])
    din.fit(rows, y[train], X_val=step.transform(X_valid), y_val=y[valid])
    return din.predict_proba(step.transform(X_test))[:, 1]


alone = clicks(FunctionTransformer())  # the identity
results = {}
for name, step in steps.items():
    p = clicks(step)
    results[name] = result = delong_test(y[test], p, alone)
    print(f"{name:24} AUC {result.score:.3f}, log loss {log_loss(y[test], p):.3f}")
print(f"{'DIN alone':24} AUC {result.base_score:.3f}, log loss {log_loss(y[test], alone):.3f}")

# %%
# The answer
# ----------
# An interval that holds zero is no evidence for or against a step.
fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
for i, (name, result) in enumerate(results.items()):
    lower, upper = result.confidence_interval
    color, marker = ("#0072B2", "o") if "MARS" in name else ("#D55E00", "s")
    ax.plot([lower, upper], [i, i], color=color, linewidth=2)
    ax.plot(result.difference, i, marker, color=color, markersize=8)
ax.axvline(0, color="black", linewidth=1, linestyle=":")
ax.set(
    yticks=range(len(results)),
    yticklabels=results,
    xlabel="AUC minus that of DIN alone\n(95 % interval)",
)
ax.margins(y=0.1)
ax.invert_yaxis()
plt.show()

# %%
for name, result in results.items():
    lower, upper = result.confidence_interval
    found = "better" if lower > 0 else "worse" if upper < 0 else "no evidence"
    print(f"{name:24} {result.difference:+.3f} ({lower:+.3f} to {upper:+.3f}): {found}")

# %%
# No, a longer history is not enough: what the user did not do, or did already, tells no more about
# them. What look-alikes did does. The baselines were made for models that read histories in order;
# DIN does not, so that this is no verdict about those.
