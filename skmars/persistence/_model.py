"""A fitted model, with what is needed to read further tables as its own."""

from __future__ import annotations

from dataclasses import dataclass

from sklearn.pipeline import Pipeline

from skmars.data._log import DEFAULT_TIME
from skmars.serving._histories import UserHistories


@dataclass(frozen=True)
class Columns:
    """What the columns of the tables are called, and how labels and histories are meant.

    Attributes
    ----------
    user, item, label : str
    time : str or None
        "timestamp" stands for another name as well, as in `Impressions.from_log`; None says that
        times are not looked at.
    order : str or None
        What orders the events of a user; None where the times do, or else the order of the log.
    title, text, image : str or None
        None stands for the usual name, where there is such a column.
    click_from : float or None
        Labels of at least so much are clicks; None where labels are 0 and 1.
    history : {"all", "positive"}
    duplicates : {"warn", "keep", "drop"}
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str | None = DEFAULT_TIME
    order: str | None = None
    label: str = "clicked"
    title: str | None = None
    text: str | None = None
    image: str | None = None
    click_from: float | None = None
    history: str = "positive"
    duplicates: str = "warn"


@dataclass(frozen=True)
class Model:
    """A fitted pipeline, the columns that it was fitted on, and what the users have done."""

    pipeline: Pipeline
    columns: Columns
    histories: UserHistories
    holdout: str
