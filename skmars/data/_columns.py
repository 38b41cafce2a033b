"""Names of columns and modalities that all steps share."""

from __future__ import annotations

# Columns of a table of impressions: those that every table has, and those that have a meaning.
# All others are context.
REQUIRED = ("user_id", "item_id", "history")
OPTIONAL = (
    "history_feedback",
    "history_timestamp",
    "timestamp",
    "user_fold",
    "user_embedding",
    "borrowed",
    "borrowed_donor",
    "borrowed_similarity",
    "borrowed_donor_similarity",
    "borrowed_feedback",
    "borrowed_timestamp",
)
RESERVED = (*REQUIRED, *OPTIONAL)
# With this begin the columns of attributes of users: "user.age".
USER_PREFIX = "user."

# Names of the look-alike features (context columns): of all users, and of look-alikes compared with
# all users.
TOUCHED = ("item_popularity", "lookalike_support")
LIKED = ("item_approval", "lookalike_approval")
LOOKALIKES = TOUCHED + LIKED

# The modality that holds the item factors.
FACTORS = "factors"

# Names of the click rates (context columns): of the user, the item, and the item's category.
RATED = ("user", "item", "category")
RATES = tuple(f"{of}_{what}" for of in RATED for what in ("click_logit", "log_impressions"))

# Name of the logit that logistic regression on click rates gives (a context column).
CLICK_LOGIT = "click_logit"

# Context columns that steps of a pipeline make for the target and the moment of a row.
MADE = (*LOOKALIKES, *RATES, CLICK_LOGIT)
