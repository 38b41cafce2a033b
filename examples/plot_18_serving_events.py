"""
Must the service know the newest clicks?
========================================

A pipeline is fitted at night. During the day it answers requests while the page loads. Does it
matter whether the answer knows what the user clicked a minute ago, and is the served answer the one
that was tested offline? This page fits a pipeline to 45 days, lets the events of 45 more come in,
and compares.
"""

# %%
# Half of the days to fit, half to serve
# --------------------------------------
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import log_loss

from skmars import Impressions, make_mars, make_multimodal_ctr
from skmars.metrics import delong_test
from skmars.persistence import Model
from skmars.serving import Events, Request, Scorer, Snapshot, open_store

generated, clicked = make_multimodal_ctr(n_users=800, n_items=300, mean_length=10, random_state=0)
log = generated.to_frame("pandas")[["user_id", "item_id", "timestamp"]].assign(clicked=clicked)
log = log.sort_values("timestamp", kind="stable", ignore_index=True)
night = log["timestamp"].min() + 45 * 86_400
past, future = log[log["timestamp"] < night], log[log["timestamp"] >= night]

X, y = Impressions.from_log(past, generated.catalog, label="clicked")
mars = make_mars(
    random_state=0,
    align__n_components=32,
    align__id_dim=16,
    align__max_iter=1,
    ctr__batch_size=256,
    ctr__learning_rate=3e-3,
    ctr__max_iter=12,
)
mars.fit(X, y)
print(f"{len(past)} impressions to fit, {len(future)} to serve")

# %%
# A store and a scorer
# --------------------
# The store keeps the events of all users durably; here it is a folder of LMDB, and a Redis server
# has the same methods. A snapshot is the fitted pipeline with its donors, and the scorer answers
# requests with both. :doc:`/guide/production` puts HTTP around them.
folder = TemporaryDirectory()
store = open_store(f"lmdb:{folder.name}/all")
snapshot = Snapshot.of(Model.of(mars, X))


def events(rows):
    """Return rows of the log as events."""
    return Events(
        user_ids=rows["user_id"].tolist(),
        item_ids=rows["item_id"].tolist(),
        time=rows["timestamp"].to_numpy(float),
        clicked=rows["clicked"].to_numpy(np.uint8),
    )


position = store.append(events(past))
print(f"The store is at position {position}.")

# %%
# One user, before and after
# --------------------------
# A user whom nobody knows at night clicks an item. The model is asked about the next three items
# that this user is shown: with the store as it is, and after this one click has come in.
unknown = future[~future["user_id"].isin(past["user_id"])]
many = unknown.groupby("user_id")["item_id"].transform("size") > 3
first = unknown[(unknown["clicked"] == 1) & many].iloc[:1]
user, moment = int(first["user_id"].iloc[0]), first["timestamp"].iloc[0]
later = future[(future["user_id"] == user) & (future["timestamp"] > moment)][:3]
shown = later["item_id"].tolist()
question = [Request(user, shown)]
before = Scorer(store).score(snapshot, question)[0]
store.append(events(first))
after = Scorer(store).score(snapshot, question)[0]
print(f"user {user}, items {shown}, of which clicked: {later['clicked'].tolist()}")
for name, answer in {"before": before, "after": after}.items():
    print(f"{name:7} position {answer.position}: {answer.probability.round(3)}")

# %%
# Forty-five days
# ---------------
# Every impression of the second half is scored by a store that was filled at the night and got
# nothing since, and by one that knows all events. A request has a time, and its history ends
# strictly before it, so that no answer knows its own click or a later one.
requests = [
    Request(int(user), [int(item)], time=float(time))
    for user, item, time in future[["user_id", "item_id", "timestamp"]].itertuples(index=False)
]


def served(store):
    """Return the probability of a click for each request."""
    return np.concatenate(
        [answer.probability for answer in Scorer(store).score(snapshot, requests)]
    )


stores = {name: open_store(f"lmdb:{folder.name}/{name}") for name in ("night", "others")}
for each in stores.values():
    each.append(events(past))
store.append(events(future))  # the click from above is known already, and counts once
print(f"The store is at position {store.position}, the log has {len(log)} rows.")

# %%
# The control: as many new events, of the same items and times, but credited to users at random. If
# it helped that histories grow, whatever is in them, these would help as well.
shuffled = future.assign(user_id=np.random.default_rng(0).permutation(future["user_id"]))
stores["others"].append(events(shuffled))
p = {
    "events of others": served(stores["others"]),
    "events of the night": served(stores["night"]),
    "all events": served(store),
}

# %%
# Rows of one user are not independent, so that the intervals are by user.
target, users = future["clicked"].to_numpy(), future["user_id"].to_numpy()


def gain(name, rows):
    """Compare with what was known at night, on these rows."""
    stale = p["events of the night"]
    return delong_test(target[rows], p[name][rows], stale[rows], users=users[rows])


for name, each in p.items():
    result = gain(name, np.full(len(target), True))
    lower, upper = result.confidence_interval
    print(f"{name:19} AUC {result.score:.3f}, log loss {log_loss(target, each):.3f}", end="")
    print(f", {result.difference:+.3f} ({lower:+.3f} to {upper:+.3f})")

# %%
# Who gains?
# ----------
# Rows of users who clicked something since the night, by what was known of them at night.
since = future.groupby("user_id")["clicked"].transform(lambda c: c.cumsum() - c).to_numpy()
known = future["user_id"].map(past.groupby("user_id")["clicked"].sum()).fillna(0).to_numpy()
groups = {
    "none": known == 0,
    "1-2": (known > 0) & (known < 3),
    "3-9": (known > 2) & (known < 10),
    "10 or more": known > 9,
}
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for i, (name, rows) in enumerate(groups.items()):
    for each, shift, color, marker in (
        ("all events", -0.1, "#0072B2", "o"),
        ("events of others", 0.1, "#D55E00", "s"),
    ):
        result = gain(each, rows & (since > 0))
        lower, upper = result.confidence_interval
        ax.plot([i + shift] * 2, [lower, upper], color=color, linewidth=2)
        label = each if i == 0 else None
        ax.plot(i + shift, result.difference, marker, color=color, markersize=8, label=label)
        print(f"{name:10} {each:16} AUC {result.base_score:.3f} -> {result.score:.3f},", end=" ")
        print(f"{result.difference:+.3f} ({lower:+.3f} to {upper:+.3f})")
ax.axhline(0, color="black", linewidth=1, linestyle=":")
ax.set_xticks(range(len(groups)), groups)
ax.set(xlabel="clicks known at night", ylabel="change of AUC (95 % interval)")
ax.margins(x=0.1)
ax.legend()
plt.show()

# %%
# Is what is served what was tested?
# ----------------------------------
# Offline, the same impressions are rows that :meth:`~skmars.Impressions.from_log` makes of the
# whole log. The service uses the same definition of a history and the same pipeline, so that the
# two should agree, for every row.
everything, _ = Impressions.from_log(log, generated.catalog, label="clicked")
offline = mars.predict_proba(everything[len(past) :])[:, 1]
print(
    f"largest difference between served and offline: {np.abs(p['all events'] - offline).max():.1e}"
)

for each in (store, *stores.values()):
    each.close()

# %%
# The first group answers the question: of a user who was unknown at night, the first click tells a
# lot, and a service that learns of it only tomorrow has lost the visit. Of a user with ten clicks,
# one more tells little. What is served is what was tested.
