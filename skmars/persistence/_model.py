"""A fitted pipeline with the column names and histories that it needs to read further tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skmars.data import Impressions
from skmars.data._attributes import Attribute
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

    It is what the command line saves, and what the service and the runner load.

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
    holdout: str = "none"
    split_at: float | None = None
    negatives: int = 0

    @classmethod
    def of(
        cls,
        pipeline: Pipeline,
        X: Impressions,
        *,
        holdout: str = "none",
        split_at: float | None = None,
        negatives: int = 0,
        **columns: Any,
    ) -> Model:
        """Make a model of a fitted pipeline and the impressions of the log that it was fitted to.

        Parameters
        ----------
        pipeline : Pipeline
            Fitted to all rows of `X`, or to some.
        X : Impressions
            All rows that `Impressions.from_log` (or `append`) returned: they tell the names of
            columns, the catalogue, and what the users did so far.
        holdout, split_at, negatives
            How the rows of the fit were chosen, see the attributes.
        **columns
            Fields of `Columns` that `X` does not tell, such as ``title="name"``, or
            ``label="liked"`` where the log was read without its labels.

        Returns
        -------
        Model

        Raises
        ------
        TypeError
            If `pipeline` is no `Pipeline`, `X` no impressions, or a field is unknown.
        sklearn.exceptions.NotFittedError
            If the pipeline is not fitted.
        ValueError
            If `X` does not hold all rows of a log.

        Examples
        --------
        >>> import pandas as pd
        >>> from skmars import DINClassifier, Impressions
        >>> from skmars.persistence import Model
        >>> from sklearn.pipeline import make_pipeline
        >>> log = pd.DataFrame({"who": ["ann", "bob"] * 5, "what": range(10), "liked": [0, 1] * 5})
        >>> X, y = Impressions.from_log(log, user="who", item="what", label="liked")
        >>> pipeline = make_pipeline(DINClassifier(max_iter=1, early_stopping=False)).fit(X, y)
        >>> model = Model.of(pipeline, X)
        >>> model.columns.user, model.columns.label
        ('who', 'liked')
        """
        if not isinstance(pipeline, Pipeline):
            raise TypeError(
                f"pipeline must be a scikit-learn Pipeline, got {type(pipeline).__name__}. A "
                "classifier alone becomes one with sklearn.pipeline.make_pipeline(classifier)."
            )
        if not isinstance(X, Impressions):
            raise TypeError(
                f"X must be the impressions that Impressions.from_log returned, got "
                f"{type(X).__name__}."
            )
        known = {f.name for f in fields(Columns)}
        if unknown := columns.keys() - known:
            raise TypeError(
                f"Columns have no field {min(unknown)!r}; they have {', '.join(sorted(known))}."
            )
        check_is_fitted(pipeline)
        histories = UserHistories.of(X)
        return cls(
            pipeline, replace(columns_of(X), **columns), histories, holdout, split_at, negatives
        )


def columns_of(X: Impressions) -> Columns:
    """Return what impressions of a log tell of its columns."""
    record = X._log
    assert record is not None  # or they would have no histories
    form = record.format
    timed = X.time is not None
    return Columns(
        user=form.user,
        item=form.item,
        time=form.time,
        order=form.order,
        label=Columns.label if form.label is None else form.label,
        history=form.history,
        duplicates=form.duplicates,
        absolute=record.zoned is not False if timed else None,
        context={name: _kind_of_context(X.context[name]) for name in form.context},
        attributes=_kinds(X.catalog.attributes),
        user_attributes=_kinds(X.user_attributes),
        clicks_alone=form.label is None,
    )


_TRUTH = {"True", "False"}


def _kinds(attributes: Mapping[str, Attribute]) -> dict[str, str | None]:
    return {name: _kind(column) for name, column in attributes.items()}


def _kind(column: Attribute) -> str:
    if column.categories is None:
        return "numbers"
    if column.offsets is not None:
        return "lists"
    # Booleans are categories of these names, which tables write in several ways.
    return "booleans" if set(column.categories) <= _TRUTH else "strings"


def _kind_of_context(column: NDArray[Any]) -> str:
    if column.dtype.kind in "iuf":
        return "numbers"
    return "booleans" if set(map(str, column.tolist())) <= _TRUTH else "strings"
