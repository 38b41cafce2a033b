"""
From a polars log to predictions
================================

Two polars tables in, one polars table out: an event log with a context column, a catalogue, and the
items to show next.
"""

# %%
# Two tables
# ----------
# Yours come from files (``pl.read_parquet``). Here, the generated data plays their part.
import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from skmars import DINClassifier, Impressions, ItemCatalog, make_multimodal_ctr

generated, clicked = make_multimodal_ctr(n_users=250, n_items=120, random_state=5)
content = generated.catalog.content
items = pl.DataFrame(
    {
        "item_id": generated.catalog.ids,
        "title": list(content["title"]),
        "text": list(content["text"]),
    }
)
log = pl.DataFrame(
    {
        "user_id": [f"user-{u:03}" for u in generated.user_ids],
        "item_id": generated.item_ids,
        "timestamp": pl.Series(generated.time).cast(pl.Int64),
        "clicked": clicked,
    }
).with_columns(hour=pl.from_epoch("timestamp").dt.hour())
log.head()

# %%
# Impressions
# -----------
# Row `i` of the log becomes row `i` of `X`. The history of a row is what the same user clicked
# before.
catalog = ItemCatalog.from_frame(items)
X, y = Impressions.from_log(log, catalog, label="clicked", context=["hour"])
X.to_frame("polars").tail(3)

# %%
# The last tenth of the time is for testing.
recent = X.time >= np.quantile(X.time, 0.9)
din = DINClassifier(batch_size=512, learning_rate=5e-3, random_state=0).fit(X[~recent], y[~recent])

# %%
# Predictions join the log as a column, as the rows have not moved.
scored = log.with_columns(probability=din.predict_proba(X)[:, 1]).filter(recent)
scored.head()

# %%
# What to show next
# -----------------
# Every unseen item becomes a row of a table with the user's history: plain polars, which every
# estimator takes as it is.
user = scored["user_id"][0]
seen = log.filter(pl.col("user_id") == user).sort("timestamp")
history = seen.filter(pl.col("clicked") == 1)["item_id"].to_list()
candidates = items.filter(~pl.col("item_id").is_in(seen["item_id"].to_list())).select(
    user_id=pl.lit(user), item_id="item_id", history=pl.lit([history]).list.first(), hour=pl.lit(20)
)
candidates.head(3)

# %%
ranked = (
    candidates.with_columns(probability=din.predict_proba(candidates)[:, 1])
    .join(items, on="item_id")
    .sort("probability", descending=True)
    .select("title", "probability")
)
ranked.head(5)

# %%
# A picture of it: the items that we would show first, with their covers.
fig, axes = plt.subplots(1, 8, figsize=(10, 1.9), layout="constrained")
of_title = dict(zip(content["title"], content["image"]))
for ax, (title, probability) in zip(axes, ranked.iter_rows()):
    ax.imshow(of_title[title], interpolation="bicubic")
    ax.set_title(f"{probability:.0%}", fontsize=10)
    ax.set_xlabel(title, fontsize=8)
    ax.set(xticks=[], yticks=[])
plt.show()
