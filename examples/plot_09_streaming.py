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
from sklearn.metrics import log_loss, roc_auc_score

from skmars import Impressions, make_mars, make_multimodal_ctr, update
from skmars.metrics import delong_test

planted, clicks = make_multimodal_ctr(n_users=500, n_items=200, random_state=0)
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
X, y = Impressions.from_log(log[period < 2], planted.catalog, label="clicked", duplicates="keep")
small = {"align__n_components": 32, "align__id_dim": 16, "align__max_iter": 3}
frozen = updated = make_mars(random_state=0, **small).fit(X, y)

p = {"fitted once": [], "updated": []}
clicked, users, scores = [], [], {name: [] for name in p}
for now in range(2, period.max() + 1):
    n = len(X)
    X, y = X.append(log[period == now])
    clicked.append(y[n:])
    users.append(X.user_ids[n:])
    for name, model in zip(p, (frozen, updated)):
        p[name].append(model.predict_proba(X[n:])[:, 1])
        scores[name].append(roc_auc_score(y[n:], p[name][-1]))
    updated = update(updated, X, y, new=slice(n, None))

# %%
# All periods together: rows of one user are not independent, so that the interval is by user.
clicked, users = np.concatenate(clicked), np.concatenate(users)
p = {name: np.concatenate(parts) for name, parts in p.items()}
result = delong_test(clicked, p["updated"], p["fitted once"], users=users)
for name, each in p.items():
    print(f"{name:12} AUC {roc_auc_score(clicked, each):.3f}", end=", ")
    print(f"log loss {log_loss(clicked, each):.3f}")
lower, upper = result.confidence_interval
print(f"difference in AUC {result.difference:+.3f}, 95 % interval {lower:+.3f} to {upper:+.3f}")


def losses(each):
    """Return the sum of the log losses of each user."""
    return np.bincount(code, -np.log(np.where(clicked == 1, each, 1 - each)))


code = np.unique(users, return_inverse=True)[1]
of_user = losses(p["updated"]) - losses(p["fitted once"])
difference = of_user.sum() / len(clicked)
error = 1.96 * of_user.std() * np.sqrt(len(of_user)) / len(clicked)
print(f"difference in log loss {difference:+.3f} ± {error:.3f}")

# %%
# Updating pays, in the order of the items and in the probabilities. Histories grow in the rows
# themselves, so that the frozen model sees new events too. But it was fitted to short histories and
# few clicks, and knows no donor but those of the first two periods.
fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
for (name, values), color, look in zip(scores.items(), ("#D55E00", "#0072B2"), ("s--", "o-")):
    ax.plot(range(3, len(values) + 3), values, look, color=color, label=name)
ax.set(xlabel="period", ylabel="AUC of the coming period", title="Test, then update")
ax.legend()
plt.show()

# %%
# To go on another day, pickle ``X`` and the pipeline: ``joblib.dump((X, updated), "mars.joblib")``.
# The optimiser's state goes along, and what is loaded continues exactly as ``updated`` would. See
# :doc:`/guide/updating` for what `update` leaves to the next fit.
