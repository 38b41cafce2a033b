"""
Going on with new events: append and update
===========================================

Clicks arrive day by day. ``X.append`` puts them behind the rows that are there, so that histories
go on. ``update`` brings a fitted pipeline forward: the classifier learns from what is new, new
users may become donors, and new items get factors. The pipeline is fitted only once.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skmars import Impressions, make_mars, make_multimodal_ctr, update

planted, clicks = make_multimodal_ctr(n_users=500, n_items=200, history="all", random_state=0)
log = planted.to_frame("pandas")[["user_id", "item_id", "timestamp"]].assign(clicked=clicks)
log = log.sort_values("timestamp")
period = np.floor((log["timestamp"] - log["timestamp"].min()) / (9 * 86_400)).to_numpy(int)
print(f"{period.max() + 1} periods of nine days, {len(log)} impressions")

# %%
# Test, then update
# -----------------
# The pipeline is fitted to the first two periods. Every further one is predicted first and learned
# from afterwards, so that each score is honest. ``update`` returns a new pipeline; the given one
# stays as it was, and here it goes on to predict, too.
X, y = Impressions.from_log(
    log[period < 2], planted.catalog, label="clicked", history="all", duplicates="keep"
)
small = {"align__n_components": 32, "align__id_dim": 16, "align__max_iter": 3}
frozen = updated = make_mars(random_state=0, **small).fit(X, y)

scores = {"fitted once": [], "updated": []}
for now in range(2, period.max() + 1):
    n = len(X)
    X, y = X.append(log[period == now])
    for name, model in zip(scores, (frozen, updated)):
        scores[name].append(roc_auc_score(y[n:], model.predict_proba(X[n:])[:, 1]))
    updated = update(updated, X, y, new=slice(n, None))

# %%
# Histories grow in the rows themselves, so that the frozen model sees new events too. But it was
# fitted to short histories and few clicks, and knows no donor but those of the first two periods.
fig, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
for name, values in scores.items():
    ax.plot(range(3, len(values) + 3), values, "o-", label=f"{name} (mean {np.mean(values):.3f})")
ax.set(xlabel="period", ylabel="AUC of the coming period", title="Test, then update")
ax.legend()
plt.show()

# %%
# To go on another day, pickle ``X`` and the pipeline: ``joblib.dump((X, updated), "mars.joblib")``.
# The optimiser's state goes along, and what is loaded continues exactly as ``updated`` would. See
# :doc:`/guide/updating` for what `update` leaves to the next fit.
