"""A fitted pipeline with the column names and histories that it needs to read further tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sklearn.pipeline import Pipeline

from skmars.data._log import DEFAULT_TIME
from skmars.data._user_histories import UserHistories


@dataclass(frozen=True)
class Columns:
    """Names of the columns of tables, and the meaning of labels and histories.

    Attributes
    ----------
    user, item, label : str
    time : str or None
        "timestamp" may also find a column of another usual name, as in `Impressions.from_log`;
        None ignores times.
    order : str or None
        Column that orders the events of a user; None for the times, or else the order of the log.
    title, text, image : str or None
        None takes the column of the usual name, if there is one.
    click_from : float or None
        Least label that is a click; None where labels are 0 and 1.
    history : {"all", "positive"}
    duplicates : {"warn", "keep", "drop"}
    time_format : str or None
        Format of the times, as `datetime.strptime` takes it, or the unit of numbers; None for
        seconds, and dates in ISO 8601.
    absolute : bool or None
        Whether times are moments of the world (numbers, dates with a zone) or those of some
        clock (dates without a zone); None without times.
    ids : {"auto", "strings"}
        "strings" makes strings of all ids; with "auto", plain integers are integers.
    context, attributes, user_attributes : mapping of str to str or None
        Context columns of logs, and columns of attributes of items and users: whether they hold
        "numbers", "booleans", "strings" or "lists".
    clicks_alone : bool
        Whether a log may lack the column of labels, all rows of which are then clicks.
    list_separator : str or None
        What separates the strings of a list in one text, such as "Action|Comedy".
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
    time_format: str | None = None
    absolute: bool | None = None
    ids: str = "auto"
    context: Mapping[str, str | None] = field(default_factory=dict)
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    user_attributes: Mapping[str, str | None] = field(default_factory=dict)
    clicks_alone: bool = False
    list_separator: str | None = None


@dataclass(frozen=True)
class Model:
    """A fitted pipeline, the columns that it was fitted on, and the histories of the users.

    Attributes
    ----------
    pipeline : Pipeline
    columns : Columns
    histories : UserHistories
        Those of the whole log.
    holdout : {"none", "last", "later"}
        What was kept out of training: nothing, the last impressions of each user, or all from a
        moment on.
    split_at : float or None
        This moment, in seconds.
    negatives : int
        How many items that a user did not click were drawn for each click.
    """

    pipeline: Pipeline
    columns: Columns
    histories: UserHistories
    holdout: str
    split_at: float | None = None
    negatives: int = 0
