"""
Half of my items have no picture: does it matter?
=================================================

Real catalogues have empty texts and pictures that can't be read. This page takes texts and pictures
away from a growing share of the items, fits the pipeline anew each time, and measures what is lost:
for items that users have clicked before, and for new ones.
"""

# %%
# Known items and new items
# -------------------------
# A quarter of the items is new: no training row shows them, and no history there holds them. 400
# users train the model; the last rows of 6,000 others are the test.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import log_loss

from skmars import Impressions, ItemCatalog, leave_last_out, make_mars, make_multimodal_ctr
from skmars.metrics import delong_test

generated, clicked = make_multimodal_ctr(n_users=6400, n_items=300, mean_length=12, random_state=0)
rng = np.random.default_rng(0)
is_new = rng.random(300) < 0.25
last = leave_last_out(generated)[2]
test = last[generated.user[last] >= 400]
new = is_new[generated.target[test]]
print(f"{len(test)} test rows, {new.sum()} of them show a new item")

log = generated.to_frame("pandas")[["user_id", "item_id", "timestamp"]].assign(clicked=clicked)
of_fit = log[(generated.user < 400) & ~is_new[generated.target]]

# %%
# What is missing
# ---------------
# ``None`` marks what an item lacks. A random order says which items lose their text first, and
# another which lose their picture, so that some have one of both and some nothing.
turn_of_text, turn_of_image = rng.permutation(300), rng.permutation(300)


def catalog_without(share):
    """Return the catalogue, less this share of the texts and of the pictures."""
    content = {name: column.copy() for name, column in generated.catalog.content.items()}
    content["text"][turn_of_text < 300 * share] = None
    content["image"][turn_of_image < 300 * share] = None
    return ItemCatalog(generated.catalog.ids, content=content)


def fit_and_predict(share):
    """Fit to such a catalogue, and return the fitted pipeline and the clicks of the test rows."""
    catalog = catalog_without(share)
    X, y = Impressions.from_log(of_fit, catalog, label="clicked")
    mars = make_mars(
        random_state=0,
        align__n_components=32,
        align__id_dim=16,
        align__max_iter=1,
        ctr__batch_size=256,
        ctr__learning_rate=3e-3,
        ctr__max_iter=12,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mars.fit(X, y)
        p = mars.predict_proba(generated.with_catalog(catalog)[test])[:, 1]
    return mars, p, [str(warning.message) for warning in caught]


shares = [0.0, 0.5, 0.9]
fitted = {share: fit_and_predict(share) for share in shares}

# %%
# Nothing stops. The encoder says once what it could not use, and lists it.
mars, _, messages = fitted[0.5]
print(*dict.fromkeys(messages), sep="\n")
print({name: len(ids) for name, ids in mars["encode"].missing_.items()})

# %%
# What is lost
# ------------
# An AUC is compared with that of a constant, one half, to have an interval by DeLong's method.
y_test = clicked[test]


def auc(rows, p):
    """Return AUC and its interval."""
    result = delong_test(y_test[rows], p[rows], np.zeros(rows.sum()))
    return result.score, [0.5 + end for end in result.confidence_interval]


fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
complete = fitted[0.0][1]
for name, rows, color, marker in (
    ("known items", ~new, "#0072B2", "o"),
    ("new items", new, "#D55E00", "s"),
):
    scores, ends = zip(*(auc(rows, p) for _, p, _ in fitted.values()))
    x = 100 * np.array(shares) + (1 if marker == "s" else -1)
    error = np.abs(np.transpose(ends) - np.array(scores))
    ax.errorbar(x, scores, yerr=error, color=color, marker=marker, capsize=3, label=name)
    for share, (_, p, _) in fitted.items():
        result = delong_test(y_test[rows], p[rows], complete[rows])
        lower, upper = result.confidence_interval
        loss = log_loss(y_test[rows], p[rows])
        print(f"{name}, {share:.0%} missing: AUC {result.score:.3f}, log loss {loss:.3f}", end="")
        print(f", change {result.difference:+.3f} ({lower:+.3f} to {upper:+.3f})" if share else "")
ax.axhline(0.5, color="black", linewidth=1, linestyle=":")
ax.set(xlabel="texts and pictures taken away (%)", ylabel="AUC (95 % interval)", xticks=x - 1)
ax.legend()
plt.show()

# %%
# One of both is enough?
# ----------------------
# With half of them taken away, a new item may still have both, or one, or nothing. The last group
# is the control: there, nothing is known of the item, so that only the user can tell.
catalog, p = catalog_without(0.5), fitted[0.5][1]
has = sum(
    np.array([value is not None for value in catalog.content[name]], dtype=int)
    for name in ("text", "image")
)[generated.target[test]]
for n, name in enumerate(["nothing", "text or picture", "both"]):
    score, (lower, upper) = auc(new & (has == n), p)
    n_rows = (new & (has == n)).sum()
    print(f"new items with {name:15} {n_rows:4} rows, AUC {score:.3f} ({lower:.3f} to {upper:.3f})")

# %%
# For items with clicks it matters less: their factors, which come from the clicks of other users,
# tell most of what texts and pictures would. For new items it matters much. One of the two, a text
# or a picture, does most of the work of both. Of a new item without either, the model can't tell
# who likes it. So write a line of text for it before it goes into the shop.
