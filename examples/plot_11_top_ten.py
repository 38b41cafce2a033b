"""
The ten best items of a user, and why
=====================================

A click probability is for one user and one item. What a shop wants of it is a list: the ten items
that a user clicks most probably. ``recommend`` makes it, ``explain`` tells why.
"""

# %%
import matplotlib.pyplot as plt

from skmars import explain, make_mars, make_multimodal_ctr, recommend

X, y = make_multimodal_ctr(n_users=300, n_items=600, random_state=0)
mars = make_mars(
    random_state=0,
    align__n_components=64,
    align__id_dim=32,
    align__max_iter=5,
    augment__n_lookalikes=10,
    ctr__max_iter=10,
)
mars.fit(X, y)

# %%
# The list
# --------
# ``X.latest()`` has one row a user, whose history is all that they have done so far. The rows of
# ``X`` are no use here: their histories end before the last events. Take three users who have
# hardly done anything yet. (``X.latest(["ann", "bob"])`` would take users by their ids.)
now = X.latest()
now = now[(now.history.length >= 2) & (now.history.length <= 3)][:3]
top = recommend(mars, now, n=10, frame="pandas")
top.head(12)

# %%
# Items of the history are left out, unless ``exclude_seen=False``. The probabilities are those of
# ``mars.predict_proba``; `cross` makes the rows, each user with each item.
mine = top[top["row"] == 0]
rows = now[:1].cross(mine["item_id"])
mars.predict_proba(rows)[:3, 1], mine["probability"].to_list()[:3]

# %%
# Why?
# ----
# Printed, the explanation reads as sentences.
why = explain(mars, rows[:3], frame="pandas")
print(why)

# %%
# Its tables have the same: ``rows`` one line a row, ``borrowed`` one line a borrowed item.
why.borrowed.head()

# %%
# Why nothing?
# ------------
# For many rows at once, count the reasons.
reasons = explain(mars, X, frame="pandas").rows["reason"].replace("", "(something is borrowed)")
count = reasons.value_counts()[::-1]
fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
ax.barh(count.index, count)
ax.set_xlabel(f"of {len(X)} rows")
plt.show()

# %%
# Large catalogues
# ----------------
# Ranking all items costs one prediction an item. A number of candidates asks for two stages: so
# many items are chosen by cheap means for each user, and these are ranked.
fast = recommend(mars, now, n=10, candidates=100, frame="pandas")
same = [
    len(set(fast["item_id"][fast["row"] == i]) & set(top["item_id"][top["row"] == i]))
    for i in range(len(now))
]
print(f"Of each user's ten items, the two stages find {same}.")
