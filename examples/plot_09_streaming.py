"""
Streaming new events with partial_fit
=====================================

Clicks arrive day by day. A model that was fitted once knows nothing of new items; ``partial_fit``
learns from each day when it is over, and gives new items an embedding of their own.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skmars import DINClassifier, make_multimodal_ctr

X, y = make_multimodal_ctr(n_users=700, n_items=250, history="all", random_state=0)
period = np.floor((X.time - X.time.min()) / (9 * 86_400)).astype(int)
print(f"{period.max() + 1} periods of nine days, {len(X)} impressions")

# %%
# Test, then train
# ----------------
# Every period is predicted first and learned from afterwards, so that each score is honest. The
# frozen model stays as it was after the first two periods.
start = period < 2
frozen = DINClassifier(max_iter=5, early_stopping=False, random_state=0).fit(X[start], y[start])
streaming = clone(frozen).fit(X[start], y[start])

scores = {"fitted once": [], "partial_fit": []}
for now in range(2, period.max() + 1):
    rows = np.flatnonzero(period == now)
    for name, model in zip(scores, (frozen, streaming)):
        scores[name].append(roc_auc_score(y[rows], model.predict_proba(X[rows])[:, 1]))
    for _ in range(2):  # epochs over what is new
        streaming.partial_fit(X[rows], y[rows])

# %%
# Histories grow in the rows themselves, so that the frozen model sees new events too. But it was
# fitted on short histories and half of the items, and its score decays.
fig, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
for name, values in scores.items():
    ax.plot(range(3, len(values) + 3), values, "o-", label=f"{name} (mean {np.mean(values):.3f})")
ax.set(xlabel="period", ylabel="AUC of the coming period", title="Test, then train")
ax.legend()
plt.show()

# %%
# To go on another day, pickle the model: ``joblib.dump(streaming, "din.joblib")``. The
# optimiser's state goes along, and what is loaded continues exactly as ``streaming`` would.
