"""
The ten best items of a user, and why
=====================================

A click probability is for one user and one item. What a shop wants is a list: the ten items that a
user clicks most probably. ``recommend`` makes it, ``explain`` tells why. Is such a list better than
the same ten best-sellers for everybody?
"""

# %%
# A shop whose truth is known
# ---------------------------
# In a real shop, nobody knows what a user would have clicked that was never shown. The generator
# does: with ``return_truth=True`` it tells the probability of every click.
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from skmars import (
    PopularityClassifier,
    explain,
    leave_last_out,
    make_mars,
    make_multimodal_ctr,
    recommend,
)

X, y, truth = make_multimodal_ctr(n_users=400, n_items=300, random_state=0, return_truth=True)
train, _, test = leave_last_out(X)
mars = make_mars(
    random_state=0,
    align__n_components=32,
    align__id_dim=16,
    align__max_iter=1,
    ctr__batch_size=256,
    ctr__learning_rate=3e-3,
    ctr__max_iter=12,
)
mars.fit(X[train], y[train])
p = mars.predict_proba(X[test])[:, 1]
print(f"{len(test)} last impressions: AUC {roc_auc_score(y[test], p):.3f}", end=", ")
print(f"log loss {log_loss(y[test], p):.3f}")

# %%
# The list
# --------
# ``X.latest()`` has one row a user, whose history is all that they have done so far. Take those who
# have hardly done anything yet. (``X.latest(["ann", "bob"])`` would take users by their ids.)
now = X.latest()
now = now[(now.history.length >= 1) & (now.history.length <= 3)]
top = recommend(mars, now, n=10, frame="pandas")
top.head(10)

# %%
# Items of the history are left out, unless ``exclude_seen=False``.
#
# Is it a good list?
# ------------------
# Each user has one number: the mean true probability of a click on the ten items of their list. The
# other lists are those of a model of popularity, ten items drawn at random, and, as a control, the
# list that MARS made for another user. The best possible list is what one would show who knows the
# truth.


def true_clicks(users, items):
    """Return the true probability of a click of each user on each of these items."""
    affinity = np.einsum("ij,ikj->ik", truth.user_taste[users], truth.item_factors[items])
    return expit(2.5 * affinity + truth.item_appeal[items])


def list_of(model):
    """Return the ten items of each row of `now`; ids are the row numbers of the catalogue."""
    return recommend(model, now, n=10, frame="pandas")["item_id"].to_numpy().reshape(-1, 10)


popularity = PopularityClassifier().fit(X[train], y[train])
everything = true_clicks(now.user, np.tile(np.arange(300), (len(now), 1)))
mine = top["item_id"].to_numpy().reshape(-1, 10)
rng = np.random.default_rng(0)
lists = {
    "random": rng.integers(0, 300, (len(now), 10)),
    "popularity": list_of(popularity),
    "MARS, another's list": np.roll(mine, 1, axis=0),
    "MARS": mine,
    "best possible": np.argsort(-everything, axis=1)[:, :10],
}
quality = {name: true_clicks(now.user, items).mean(axis=1) for name, items in lists.items()}

fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for i, (name, values) in enumerate(quality.items()):
    mean, error = values.mean(), 1.96 * values.std() / np.sqrt(len(values))
    color, marker = ("#0072B2", "o") if name == "MARS" else ("#D55E00", "s")
    ax.errorbar(mean, i, xerr=error, color=color, marker=marker, markersize=8, capsize=4)
    print(f"{name:20} {mean:.3f} ± {error:.3f} of {len(now)} users")
ax.set(yticks=range(len(quality)), yticklabels=quality)
ax.set(xlabel="true probability of a click on the\nten items (mean over users, 95 % interval)")
ax.margins(y=0.2)
plt.show()

# %%
# The difference, user by user:
difference = quality["MARS"] - quality["popularity"]
error = 1.96 * difference.std() / np.sqrt(len(difference))
print(f"MARS - popularity: {difference.mean():+.3f} ± {error:.3f}")

# %%
# So the list is worth having, and it is the user's own: what was made for somebody else is no
# better than a list for everybody.
#
# Why these?
# ----------
# Printed, the explanation reads as sentences. Its tables ``rows`` and ``borrowed`` have the same,
# one line a row and one line a borrowed item.
rows = now[:1].cross(top["item_id"][:2])
print(explain(mars, rows, frame="pandas"))

# %%
# Large catalogues
# ----------------
# Ranking all items costs one prediction an item. A number of candidates asks for two stages: so
# many items are chosen by cheap means for each user, and these are ranked.
fast = recommend(mars, now, n=10, candidates=100, frame="pandas")
same = np.mean(
    [len(set(a) & set(b)) for a, b in zip(fast["item_id"].to_numpy().reshape(-1, 10), mine)]
)
print(f"Of the ten items of a list, two stages find {same:.1f}.")
