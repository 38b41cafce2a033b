"""
From a polars log: does the time of day help?
=============================================

Two polars tables come in, a log and a catalogue, and predictions go back into the log as a column.
On the way, a column of one's own is tried: are clicks predicted better when the model knows the
part of the day?
"""

# %%
# Two tables
# ----------
# Yours come from files (``pl.read_parquet``). Here, generated data plays their part, and in the
# evening everybody clicks more: the log-odds of a click rise by 1.5.
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.metrics import log_loss

from skmars import DINClassifier, Impressions, ItemCatalog, make_multimodal_ctr
from skmars.metrics import delong_test

generated, _, truth = make_multimodal_ctr(
    n_users=1200, n_items=200, mean_length=10, random_state=5, return_truth=True
)
content = generated.catalog.content
items = pl.DataFrame(
    {
        "item_id": generated.catalog.ids,
        "title": list(content["title"]),
        "text": list(content["text"]),
    }
)
parts = ["night", "morning", "afternoon", "evening"]
log = pl.DataFrame(
    {
        "user_id": [f"user-{u:04}" for u in generated.user_ids],
        "item_id": generated.item_ids,
        "timestamp": pl.Series(generated.time).cast(pl.Int64),
    }
).with_columns(
    part=(pl.from_epoch("timestamp").dt.hour() // 6).replace_strict(
        dict(enumerate(parts)), return_dtype=pl.Enum(parts)
    )
)
evening = (log["part"] == "evening").to_numpy()
clicks = np.random.default_rng(0).random(len(log)) < expit(
    logit(truth.click_probability) + 1.5 * evening
)
log = log.with_columns(clicked=pl.Series(clicks).cast(pl.Int64))
log.head()

# %%
# Impressions
# -----------
# Row `i` of the log becomes row `i` of `X`. The history of a row is what the same user clicked
# before. ``context`` names the columns that describe the row itself.
catalog = ItemCatalog.from_frame(items)
X, y = Impressions.from_log(log, catalog, label="clicked", context=["part"])
X.to_frame("polars").tail(3)

# %%
# With and without
# ----------------
# The last fifth of the time is the test. Both models are fitted to the same rows before it.
recent = X.time >= np.quantile(X.time, 0.8)
bare, _ = Impressions.from_log(log, catalog, label="clicked")
without = DINClassifier(max_iter=10, random_state=0)
din = clone(without).fit(X[~recent], y[~recent])
without.fit(bare[~recent], y[~recent])

# %%
# Predictions join the log as columns, as the rows have not moved. From here on it is plain polars.
scored = log.with_columns(
    with_part=din.predict_proba(X)[:, 1], without=without.predict_proba(bare)[:, 1]
).filter(recent)
scored.head()

# %%
# Rows of one user are not independent, so that the interval of the difference is by user.
result = delong_test(
    scored["clicked"], scored["with_part"], scored["without"], users=scored["user_id"]
)
for name, auc in {"without": result.base_score, "with_part": result.score}.items():
    print(f"{name:10} AUC {auc:.3f}, log loss {log_loss(scored['clicked'], scored[name]):.3f}")
lower, upper = result.confidence_interval
print(f"difference {result.difference:+.3f}, 95 % interval {lower:+.3f} to {upper:+.3f}")

# %%
# Where it helps
# --------------
# ``group_by`` tells what an AUC hides: the model without the column is wrong in the evening, and
# equally wrong, the other way, in the rest of the day.
by_part = (
    scored.group_by("part")
    .agg(
        rows=pl.len(),
        observed=pl.col("clicked").mean(),
        error=1.96 * pl.col("clicked").std() / pl.len().sqrt(),
        with_part=pl.col("with_part").mean(),
        without=pl.col("without").mean(),
    )
    .sort("part")
)
by_part

# %%
fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
x = np.arange(len(by_part))
ax.errorbar(
    x,
    by_part["observed"],
    yerr=by_part["error"],
    fmt="D",
    color="black",
    capsize=4,
    label="clicked (95 % interval)",
)
ax.plot(x + 0.15, by_part["with_part"], "o", color="#0072B2", markersize=8, label="with the part")
ax.plot(x - 0.15, by_part["without"], "s", color="#D55E00", markersize=8, label="without")
ax.set_xticks(x, by_part["part"])
ax.set(ylabel="share of clicks, test rows")
ax.margins(x=0.1, y=0.35)
ax.legend(loc="upper left")
plt.show()

# %%
# What to show next
# -----------------
# ``X.latest`` has the history of a user up to now, and ``cross`` makes a row of each item. The same
# three items are less and more worth showing in the morning and in the evening.
user = scored["user_id"][0]
shown = items["item_id"][:3]
pl.concat(
    items[:3].select(
        "title",
        part=pl.lit(part),
        probability=pl.Series(
            din.predict_proba(X.latest([user], context={"part": part}).cross(shown))[:, 1]
        ),
    )
    for part in ("morning", "evening")
)

# %%
# The answer is in the difference and in the picture: with the column, the probabilities follow the
# day. A new column is worth its keep where the interval lies above zero.
