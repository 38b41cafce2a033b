"""
Calibration and the choice of a threshold
=========================================

A click model's probabilities set bids and decide what to show. scikit-learn's own tools tell
whether they can be trusted, repair them, and choose the threshold that earns most.
"""

# %%
import matplotlib.pyplot as plt
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import brier_score_loss, make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV

from skmars import DINClassifier, leave_last_out, make_multimodal_ctr

X, y = make_multimodal_ctr(n_users=500, n_items=200, random_state=0)
train, valid, test = leave_last_out(X)

# %%
# Weighing the clicks by 3 distorts the probabilities, which makes a good example.
din = DINClassifier(
    class_weight={0: 1.0, 1: 3.0}, batch_size=512, learning_rate=5e-3, random_state=0
).fit(X[train], y[train])

# %%
# Calibrate on rows that the fit has not seen
# -------------------------------------------
# :class:`~sklearn.frozen.FrozenEstimator` keeps the fitted model as it is; the calibrator learns
# on the validation rows alone, each user's last but one.
calibrated = CalibratedClassifierCV(FrozenEstimator(din), method="sigmoid", ensemble=False)
calibrated.fit(X[valid], y[valid])

fig, ax = plt.subplots(figsize=(5.5, 5.5), layout="constrained")
for name, model in {"DIN, clicks weighted by 3": din, "calibrated": calibrated}.items():
    loss = brier_score_loss(y[test], model.predict_proba(X[test])[:, 1])
    CalibrationDisplay.from_estimator(
        model,
        X[test],
        y[test],
        n_bins=8,
        strategy="quantile",
        ax=ax,
        name=f"{name} (Brier {loss:.3f})",
    )
ax.legend(loc="upper left")
plt.show()

# %%
# The threshold that earns most
# -----------------------------
# Say that showing an item costs 1 and a click earns 3: then only items with a probability above one
# third are worth showing. The tuner finds such a threshold from the gains themselves.


def gain(y_true, shown):
    """Return what a rule earns per 100 impressions."""
    return 100 * (3 * (shown * y_true) - shown).mean()


tuned = TunedThresholdClassifierCV(
    FrozenEstimator(din),
    scoring=make_scorer(gain),
    cv="prefit",
    refit=False,
    store_cv_results=True,
).fit(X[valid], y[valid])

for name, model in {"at 0.5": din, f"at {tuned.best_threshold_:.2f}": tuned}.items():
    print(f"threshold {name}: {gain(y[test], model.predict(X[test])):.1f} per 100 impressions")

# %%
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.plot(tuned.cv_results_["thresholds"], tuned.cv_results_["scores"], label="validation rows")
ax.axvline(tuned.best_threshold_, color="C1", label=f"best: {tuned.best_threshold_:.2f}")
ax.axvline(0.5, color="0.5", linestyle=":", label="0.5")
ax.set(xlabel="threshold", ylabel="gain per 100 impressions")
ax.legend()
plt.show()
