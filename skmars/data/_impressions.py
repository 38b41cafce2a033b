"""The container of rows that all steps of a pipeline take and return: one row is one impression."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from skmars.data._attributes import Attribute
from skmars.data._catalog import ItemCatalog, distinct_codes, require_catalog
from skmars.data._columns import MADE
from skmars.data._crossing import check_known, item_codes, new_context
from skmars.data._display import impressions_html
from skmars.data._fields import (
    Fields,
    as_embedding,
    as_encoder,
    as_fold,
    check_sequences,
    checked,
)
from skmars.data._folds import EVERYBODY
from skmars.data._frames import Table, is_frame, make_frame
from skmars.data._known_users import KnownUsers
from skmars.data._log import Events, LogFormat, LogRecord, column_names, read_log
from skmars.data._log_on_disk import read_parquet_log
from skmars.data._rows import read_rows
from skmars.data._sequences import Sequences
from skmars.data._user_columns import column_name, named_in_log, of_rows, of_table
from skmars.utils._ids import Lookup, as_ids
from skmars.utils._on_disk import Disk, count_codes, taken

if TYPE_CHECKING:
    from skmars.data._frames import Frame

UserEncoder = Callable[["Impressions"], NDArray[np.float32]]


@dataclass(frozen=True, eq=False, repr=False)
class Impressions:
    """Impressions: a user is shown a target item, and has a history of items.

    Immutable and columnar. Histories are views into one array that all rows share, so that
    selecting rows copies a few integers a row, however long the histories are. scikit-learn
    slices it like an array; the catalogue goes along by reference.

    Usually built with `from_log` or `from_frame`; the constructor checks its arguments.

    Parameters
    ----------
    catalog : ItemCatalog
        The items; all item codes are positions in it.
    users : ndarray of shape (n_users,)
        User ids.
    user : ndarray of shape (n_rows,), int32
        The user of each row, as position in `users`.
    target : ndarray of shape (n_rows,), int32
        The item shown, as position in ``catalog.ids``.
    history : Sequences of n_rows rows
        The items that the user touched before, oldest first.
    time : ndarray of shape (n_rows,), float64, default=None
        When the impression happened, in seconds. Where that is unknown: the latest moment
        before which it can't have happened, -inf if there is none.
    context : mapping of str to ndarray of shape (n_rows,), default={}
        Further columns: numbers, or strings as objects.
    borrowed : Sequences of n_rows rows, default=None
        The items that retrieval put to the left of each history, and whose they are.
    fold : ndarray of shape (n_rows,), int8, default=None
        The fold of users (0, 1, ...) without which the row's features were learnt, which is that
        of its own user (`fit_transform`). -1 where they were learnt from all users
        (`transform`), -2 where that includes what the row's own user did later. None is -1
        everywhere.
    user_attributes : mapping of str to sequence of length n_users, default={}
        What is known of the users, such as their age or country, aligned with `users`: numbers,
        strings or booleans (a category each), or lists of strings, each with missing values. As an
        attribute of `X`, columns whose `to_list()` gives the entries.

    Attributes
    ----------
    shape : tuple of int
        (number of rows, number of columns that `to_frame` gives).
    columns : list of str
        Names of these columns.
    user_ids, item_ids : ndarray of shape (n_rows,)
        Ids of the users and of the targets.
    user_embedding : ndarray of shape (n_rows, n_components), float32, or None
        User embeddings in the aligned space. Where an aligner attached its encoder, they are
        computed on access, for these rows alone.

    Examples
    --------
    >>> import pandas as pd
    >>> log = pd.DataFrame({"user_id": [1, 1, 1], "item_id": [5, 6, 7], "liked": [1, 0, 1]})
    >>> X, y = Impressions.from_log(log, label="liked", history="all")
    >>> X
    Impressions(3 rows, 1 users, 3 items, history 0-2)
    >>> X[[2]].to_frame("pandas")
       user_id  item_id history history_feedback
    0        1        7  [5, 6]           [1, 0]
    """

    catalog: ItemCatalog
    users: NDArray[Any]
    user: NDArray[np.int32]
    target: NDArray[np.int32]
    history: Sequences
    time: NDArray[np.float64] | None = None
    context: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    borrowed: Sequences | None = None
    fold: NDArray[np.int8] | None = None
    user_attributes: Mapping[str, Attribute] = field(default_factory=dict)
    _embedding: NDArray[np.float32] | None = None
    _encoder: UserEncoder | None = None
    _log: LogRecord | None = None  # only where the rows are all those of a log

    _zone: str | None = None  # in which the log had its times, to show them
    _disk: Disk | None = None  # where arrays of many rows are put; None for memory

    # Selections and other copies that `replace` makes are not checked again.
    _checked: bool = False

    def __post_init__(self) -> None:
        if not self._checked:
            given = {f.name: getattr(self, f.name) for f in fields(self)}
            vars(self).update(checked(cast(Fields, given)), _checked=True)  # past the frozen ones
        columns: tuple[tuple[str, Any], ...] = (
            ("target", self.target),
            ("history", self.history),
            ("time", self.time),
            ("borrowed", self.borrowed),
            ("fold", self.fold),
            ("user_embedding", self._embedding),
            *self.context.items(),
        )
        for name, column in columns:
            if column is not None and len(column) != len(self.user):
                raise ValueError(f"{name} has {len(column)} rows, but user has {len(self.user)}.")
        for name, attribute in self.user_attributes.items():
            if len(attribute) != len(self.users):
                raise ValueError(
                    f"user_attributes[{name!r}] has {len(attribute)} entries for {len(self.users)} "
                    "users."
                )

    # --- the interface that scikit-learn needs ------------------------------------------

    def __len__(self) -> int:
        return len(self.user)

    @property
    def columns(self) -> list[str]:
        return list(self._frame_columns())

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), len(self._frame_columns())

    def __getitem__(self, rows: Any) -> Impressions:
        """Select rows by an int array, a mask, a slice, or ``(rows, ...)``."""
        if isinstance(rows, tuple):
            rows = next((part for part in rows if part is not Ellipsis), slice(None))
        if not isinstance(rows, slice):
            rows = np.atleast_1d(np.asarray(rows))
            if rows.dtype.kind not in "biu":
                if rows.size:
                    raise IndexError(
                        "Impressions are indexed by row: an int array, a boolean mask or a slice; "
                        f"got dtype {rows.dtype}. Columns: X.user_ids, X.item_ids, X.to_frame()."
                    )
                rows = rows.astype(np.int64)
        disk = self._disk
        return self._with(
            user=taken(self.user, rows, disk),
            target=taken(self.target, rows, disk),
            history=self.history.taken(rows, disk),
            time=None if self.time is None else taken(self.time, rows, disk),
            context={name: taken(column, rows, disk) for name, column in self.context.items()},
            borrowed=None if self.borrowed is None else self.borrowed.taken(rows, disk),
            fold=None if self.fold is None else taken(self.fold, rows, disk),
            _embedding=None if self._embedding is None else taken(self._embedding, rows, disk),
            _log=None,
        )

    def _with(self, **changes: Any) -> Impressions:
        """Do as `dataclasses.replace`, at a twentieth of its cost: of what needs no check."""
        new = object.__new__(type(self))
        vars(new).update(vars(self), **changes)
        return new

    # Without these, NumPy would take the container for a sequence of sequences.
    __iter__ = None

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        raise TypeError(
            "Impressions hold ragged histories and do not become an array. Use "
            "X.to_frame('pandas') for a table. A tool that takes nothing but arrays takes the "
            "numbers of its rows (guide: scikit-learn's tools)."
        )

    # --- ids and embeddings -------------------------------------------------------------

    @property
    def user_ids(self) -> NDArray[Any]:
        return self.users[self.user]

    @property
    def item_ids(self) -> NDArray[Any]:
        return self.catalog.ids[self.target]

    @property
    def user_embedding(self) -> NDArray[np.float32] | None:
        if self._embedding is None and self._encoder is not None:
            return self._encoder(self)
        return self._embedding

    # --- what the steps of the pipeline add ----------------------------------------------

    def with_catalog(self, catalog: ItemCatalog) -> Impressions:
        """Return the same rows with another catalogue that has their items, in any order.

        Parameters
        ----------
        catalog : ItemCatalog

        Returns
        -------
        Impressions

        Raises
        ------
        ValueError
            If the catalogue lacks an item of the rows.
        TypeError
            If its ids are strings and those of the rows integers, or the other way round.
        """
        if require_catalog(catalog).continues(self.catalog):
            return self._with(catalog=catalog)
        # Few rows of a large log, or of a large catalogue, cost what they hold. (All rows of a log
        # share an array that also holds each user's last event, which is in no row's history.)
        history = self.history if self._log is not None else self.history.trimmed()
        borrowed = None if self.borrowed is None else self.borrowed.trimmed()
        held = [self.target, history.items, *([] if borrowed is None else [borrowed.items])]
        used, places = distinct_codes(held, len(self.catalog))
        codes = catalog.codes(self.catalog.take_ids(used), "item_id of X")
        if (codes < 0).any():
            lacking = self.catalog.take_ids(used[codes < 0])
            raise ValueError(
                f"catalog lacks {len(lacking)} items of X (first: {lacking[:1].tolist()[0]!r}). "
                "Pass a catalogue that has them, or add them with catalog.extend(X.catalog.ids)."
            )
        target, *items = (codes[place] for place in places)
        return self._with(
            catalog=catalog,
            target=target,
            history=history._with(items=items[0]),
            borrowed=None if borrowed is None else borrowed._with(items=items[1]),
        )

    def with_borrowed(self, borrowed: Sequences | None) -> Impressions:
        """Return the same rows with these borrowed items to the left of each history."""
        return replace(self, borrowed=check_sequences(borrowed, "borrowed", self.catalog))

    def with_fold(self, fold: NDArray[np.int8] | None) -> Impressions:
        """Return the same rows with another `fold`: without whom their features were learnt."""
        if fold is None:
            return self._with(fold=None)
        fold, known = as_fold(fold), len(self.catalog.folds)
        if fold is not None and 0 < known <= fold.max(initial=-1):
            raise ValueError(
                f"fold holds {fold.max()}, but the catalogue has {known} folds of users, which "
                "count from 0. Pass the folds that its features were made for."
            )
        return replace(self, fold=fold)

    def with_user_embedding(self, embedding: NDArray[np.float32] | None) -> Impressions:
        """Return the same rows with these user embeddings, shape (n_rows, n_components)."""
        return replace(self, _embedding=as_embedding(embedding), _encoder=None)

    def with_user_encoder(self, encoder: UserEncoder) -> Impressions:
        """Return the same rows with user embeddings that `encoder` computes on access."""
        return self._with(_embedding=None, _encoder=as_encoder(encoder))

    def with_users(self, users: Frame, *, user: str = "user_id") -> Impressions:
        """Return the same rows with further (or replaced) attributes of their users.

        Parameters
        ----------
        users : pandas.DataFrame, polars.DataFrame or pyarrow.Table
            One row a user. All columns but that of the ids are attributes: numbers, strings,
            categoricals or booleans, or lists of strings. Users that it lacks have missing ones.
        user : str, default="user_id"
            Column of the user ids.

        Returns
        -------
        Impressions

        Raises
        ------
        ValueError
            If a user is there twice, or there is no column of ids, or no other one.
        TypeError
            If `users` is no table, or a column holds what is no attribute.

        Examples
        --------
        >>> import pandas as pd
        >>> X, _ = Impressions.from_log(pd.DataFrame({"user_id": [1, 2], "item_id": [5, 6]}))
        >>> X = X.with_users(pd.DataFrame({"user_id": [2, 1], "country": ["fr", "it"]}))
        >>> X.user_attributes["country"].to_list()
        ['it', 'fr']
        """
        told = KnownUsers(*of_table(users, user))
        X = self._with_users(told.of(self.users, "user_id of X"))
        return X if X._log is None else X._knowing(self._known_users.replaced_by(told))

    def _with_users(self, attributes: Mapping[str, Attribute]) -> Impressions:
        return replace(self, user_attributes={**self.user_attributes, **attributes})

    @property
    def _known_users(self) -> KnownUsers:
        """The users of the log, and those who were in a table of users alone."""
        known = None if self._log is None else self._log.known
        if known is None or known.attributes.keys() != self.user_attributes.keys():
            return KnownUsers(self.users, self.user_attributes)
        return known

    def _knowing(self, known: KnownUsers) -> Impressions:
        """Return the rows of a log, with what is known of their users and of others."""
        assert self._log is not None
        attributes = known.of(self.users, "user_id of X")
        return replace(self, user_attributes=attributes, _log=replace(self._log, known=known))

    def _with_users_of(
        self, users: Frame | Sequence[str] | None, log: Frame, form: LogFormat
    ) -> Impressions:
        """Add the attributes of a table of users, or of columns of the log."""
        if users is None:
            return self
        if is_frame(users):
            return self.with_users(cast("Frame", users), user=form.user)
        table = Table(log, "log")
        taken = (form.user, form.item, form.time, form.order, form.label, *self.context)
        columns = named_in_log(table, users, taken)
        code = Lookup(self.users, "log")(table.ids(form.user), "log")
        return self._with_users(of_rows(table, columns, code, len(self.users)))

    # --- other rows of the same users -----------------------------------------------------

    def cross(self, items: Any) -> Impressions:
        """Show items to the user of every row: one row for each row and item.

        Parameters
        ----------
        items : array-like of shape (n_items,), or list of n_rows array-likes
            Item ids of the catalogue: the same for all rows, or those of each row.

        Returns
        -------
        Impressions
            The first row with each of its items, then the second one, and so on. All but the
            target is that of the row; histories are views. Context is repeated as it is, so that
            `X` should have no column that describes the target (its price, say).

        Raises
        ------
        ValueError
            If the catalogue lacks an item, or there is not one list a row. If the rows have
            borrowed items, look-alike features or click rates, which depend on the target.
        TypeError
            If the ids are strings and those of the catalogue integers, or the other way round.

        Examples
        --------
        >>> import pandas as pd
        >>> log = pd.DataFrame({"user_id": ["ann", "bob", "ann"], "item_id": [5, 6, 7]})
        >>> now = Impressions.from_log(log)[0].latest()
        >>> now.cross([6, 7]).to_frame("pandas")
          user_id  item_id history
        0     ann        6  [5, 7]
        1     ann        7  [5, 7]
        2     bob        6     [6]
        3     bob        7     [6]
        >>> now.cross([[6], [5, 7]]).item_ids
        array([6, 5, 7])
        """
        self._check_free_of_targets("cross")
        codes, count = item_codes(items, len(self), self.catalog)
        return replace(self[np.repeat(np.arange(len(self)), count)], target=codes)

    def latest(self, users: Any = None, *, context: Mapping[str, Any] | None = None) -> Impressions:
        """Return one row a user, whose history is all that they have done so far.

        Parameters
        ----------
        users : array-like of shape (n_rows,), default=None
            User ids; None takes all, in the order of ``X.users``.
        context : mapping of str to scalar or array-like of shape (n_rows,), default=None
            The context of the new rows, if `X` has any: one value for all, or one a row.

        Returns
        -------
        Impressions
            Rows at a moment after all events of the log. The target is a placeholder, the last item
            of the user; `cross` and `recommend` put others in its place.

        Raises
        ------
        ValueError
            If `X` is not all that `from_log` returned: the events of a user are read from it. If a
            user is unknown, or `context` has not the columns of `X`.
        TypeError
            If the ids are strings and those of `X` integers, or the other way round.

        Examples
        --------
        >>> import pandas as pd
        >>> log = pd.DataFrame({"user_id": ["ann", "bob", "ann"], "item_id": [5, 6, 7]})
        >>> X, _ = Impressions.from_log(log)
        >>> X.latest(["ann"])
        Impressions(1 rows, 1 users, 3 items, history 2-2)
        """
        self._check_free_of_targets("latest")
        events, now = self._events_of_users()
        who = np.arange(len(self.users), dtype=np.int32)
        if users is not None:
            ids = as_ids(users, "users")
            who = Lookup(self.users, "X")(ids, "users")
            advice = (
                "Correct the ids; make the row of a user without any event with "
                "Impressions.from_frame, with an empty history."
            )
            check_known(ids, who < 0, "users", "rows of X have no user", advice)
        history = events[who]
        filled = history.length > 0
        target = np.zeros(len(who), dtype=np.int32)
        target[filled] = history.items[(history.start + history.length - 1)[filled]]
        return replace(
            self,
            user=who,
            target=target,
            history=history,
            time=None if now is None else np.full(len(who), now),
            context=new_context(context, self.context, len(who)),
            fold=None,
            _embedding=None,
            _encoder=None,
            _log=None,
        )

    def _events_of_users(self) -> tuple[Sequences, float | None]:
        """Return all events of each of `users`, and a moment after those of the whole log.

        Raises
        ------
        ValueError
            If these are not all rows of a log: histories share one array with those of all rows,
            so that events of rows that are not here would be among them.
        """
        # Events are stored user after user, so that those of one end where the next begin.
        start = np.full(len(self.users) + 1, -1, dtype=np.int64)
        start[self.user], start[-1] = self.history.start, len(self.history.items)
        all_rows = self._log is not None and (np.diff(start, prepend=0) >= 0).all()
        if not all_rows or (start[self.user] != self.history.start).any():
            raise ValueError(
                "X must hold all rows that Impressions.from_log returned, since the events of a "
                f"user are read from them; got {self!r}, which is a part of them, or made "
                "otherwise. Pass the impressions as from_log returned them."
            )
        length = np.diff(start).astype(np.int32)
        now = None if self.time is None else float(np.nextafter(self.time.max(), np.inf))
        return replace(self.history, start=start[:-1], length=length), now

    def _check_free_of_targets(self, method: str) -> None:
        """Raise ValueError if the rows have what was made for their targets."""
        made = [name for name in MADE if name in self.context]
        made += [] if self.borrowed is None else ["borrowed"]
        if made:
            raise ValueError(
                f"X.{method}() gives rows with other targets, but X has columns that were made for "
                f"the present ones: {', '.join(made)}. Call it before the first step, and pass the "
                "result through the whole pipeline."
            )

    # --- frames ---------------------------------------------------------------------------

    @overload
    @classmethod
    def from_log(
        cls,
        log: Frame,
        catalog: ItemCatalog | None = ...,
        *,
        user: str = ...,
        item: str = ...,
        time: str | None = ...,
        order: str | None = ...,
        label: str,
        history: str = ...,
        context: Iterable[str] = ...,
        users: Frame | Sequence[str] | None = ...,
        duplicates: str = ...,
    ) -> tuple[Impressions, NDArray[np.int64]]: ...
    @overload
    @classmethod
    def from_log(
        cls,
        log: Frame,
        catalog: ItemCatalog | None = ...,
        *,
        user: str = ...,
        item: str = ...,
        time: str | None = ...,
        order: str | None = ...,
        label: None = ...,
        history: str = ...,
        context: Iterable[str] = ...,
        users: Frame | Sequence[str] | None = ...,
        duplicates: str = ...,
    ) -> tuple[Impressions, None]: ...
    @classmethod
    def from_log(
        cls,
        log: Frame,
        catalog: ItemCatalog | None = None,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = "timestamp",
        order: str | None = None,
        label: str | None = None,
        history: str = "positive",
        context: Iterable[str] = (),
        users: Frame | Sequence[str] | None = None,
        duplicates: str = "warn",
    ) -> tuple[Impressions, NDArray[np.int64] | None]:
        """Turn an interaction log into impressions: row `i` of the log becomes row `i`.

        Parameters
        ----------
        log : pandas.DataFrame, polars.DataFrame or pyarrow.Table
            One row an event, in any order.
        catalog : ItemCatalog, default=None
            The items. Without one, the items of the log, known by their ids alone. Items that
            a catalogue lacks are added to it without content, with a warning.
        user, item : str
            Columns of the user and item ids (integers or strings).
        time : str or None, default="timestamp"
            Column of the times: seconds or datetimes. If there is no column of the default name,
            but one column of datetimes or of another usual name (such as `time`, `date`,
            `event_time`), that one is taken. None says that there are no times.
        order : str, default=None
            Column that orders the events of a user, for logs without times, or where it is more
            reliable than these. Times then only bound what may be borrowed: an impression is
            taken to be no earlier than what its user did before it, an event no later than what
            its user did after it.
        label : str, default=None
            Column of the clicks: booleans, or 0 and 1. Without it, every event counts as a
            positive one, and `y` is None.
        history : {"positive", "all"}, default="positive"
            What a history holds: the items that the user clicked (what a click log is), or all
            items with the label of each as feedback.
        context : sequence of str, default=()
            Further columns to keep: numbers or strings. None of those that another parameter
            names.
        users : DataFrame, Table or list of str, default=None
            Attributes of users, such as age and country: a table with one row a user and the
            column `user` (see `with_users`), or columns of the log that are the same in all rows
            of a user.
        duplicates : {"warn", "keep", "drop"}, default="warn"
            What to do with rows that repeat user, item and time: keep them with a warning, or
            without, or drop all but the first (rows of X then no longer match those of the log).

        Returns
        -------
        X : Impressions of n_rows rows
            The history of a row is what the same user did strictly before the moment of the row.
            The moment is the value of `order`, or else the time, or else the place in the log.
            Rows of one moment (a page, a slate) are in none of each other's histories. A row of
            unknown time has an empty history, and is in nobody's history; its time is -inf.
        y : ndarray of shape (n_rows,), int64, or None

        Raises
        ------
        TypeError
            If `log` is not a table, a parameter not the name of a column, ids mix integers and
            strings, or a column has a wrong type: strings as times, say, or lists as context.
        ValueError
            If a column is missing or named twice, the log is empty, an id or a place in the order
            is missing, no time is known, or the label is not binary. If there is no column
            `timestamp`, but several that may hold the times.

        Warns
        -----
        UserWarning
            If rows repeat, times are unknown, or items are not in the catalogue.

        Examples
        --------
        >>> import polars as pl
        >>> log = pl.DataFrame(
        ...     {"user_id": ["a", "b", "a"], "item_id": [1, 2, 3], "timestamp": [1, 2, 3]})
        >>> X, _ = Impressions.from_log(log)
        >>> X.catalog.ids[X.history.row(2)]
        array([1])
        """
        form = LogFormat(user, item, time, order, label, history, column_names(context), duplicates)
        read, y = read_log(log, catalog, form)
        return cls(**read)._with_users_of(users, log, form), y

    @overload
    @classmethod
    def from_parquet(
        cls,
        files: Any,
        catalog: ItemCatalog | None = ...,
        *,
        folder: str | PathLike[str] | None = ...,
        user: str = ...,
        item: str = ...,
        time: str | None = ...,
        order: str | None = ...,
        label: str,
        history: str = ...,
        context: Iterable[str] = ...,
        users: Frame | None = ...,
        duplicates: str = ...,
    ) -> tuple[Impressions, NDArray[np.int64]]: ...
    @overload
    @classmethod
    def from_parquet(
        cls,
        files: Any,
        catalog: ItemCatalog | None = ...,
        *,
        folder: str | PathLike[str] | None = ...,
        user: str = ...,
        item: str = ...,
        time: str | None = ...,
        order: str | None = ...,
        label: None = ...,
        history: str = ...,
        context: Iterable[str] = ...,
        users: Frame | None = ...,
        duplicates: str = ...,
    ) -> tuple[Impressions, None]: ...
    @classmethod
    def from_parquet(
        cls,
        files: Any,
        catalog: ItemCatalog | None = None,
        *,
        folder: str | PathLike[str] | None = None,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = "timestamp",
        order: str | None = None,
        label: str | None = None,
        history: str = "positive",
        context: Iterable[str] = (),
        users: Frame | None = None,
        duplicates: str = "warn",
    ) -> tuple[Impressions, NDArray[np.int64] | None]:
        """Turn an interaction log that is larger than memory into impressions.

        They are those that `from_log` makes of the table in the files, but their arrays are files,
        of which the system reads what is needed. The log is read some rows at a time. In memory
        stand the distinct ids of users and items, and strings of `context` (8 bytes a row).

        Parameters
        ----------
        files : str or Path, or list of these
            Parquet files, whose rows follow one another. A folder stands for the files in it whose
            names end in ``.parquet``, in the order of their names.
        catalog : ItemCatalog, default=None
            As for `from_log`.
        folder : str or Path, default=None
            A new folder for the arrays, about 50 bytes a row, which stays. None puts them where
            temporary files are, and removes them when nobody needs them any more.
        user, item, time, order, label, history, context, duplicates
            As for `from_log`.
        users : DataFrame or Table, default=None
            Attributes of users: a table with one row a user and the column `user`.

        Returns
        -------
        X : Impressions of n_rows rows
            Arrays that are made of more than four million of its rows, such as those of
            ``X[train]``, are temporary files in the same folder. `DINClassifier` goes through so
            many rows in an order that reads files in large pieces. Joblib's workers open the same
            files; a pickle holds all values.
        y : ndarray of shape (n_rows,), int64, or None
            A file, too.

        Raises
        ------
        TypeError, ValueError
            As for `from_log`. If a file is no Parquet file or cut short, or the files differ in
            their columns.
        OSError
            If a file is not there, `folder` is there and not empty, or it can't be written:
            nothing half-made stays.
        ImportError
            If pyarrow is not installed.

        Warns
        -----
        UserWarning
            As for `from_log`.

        Examples
        --------
        >>> import tempfile
        >>> import polars as pl
        >>> from pathlib import Path
        >>> log = pl.DataFrame(
        ...     {"user_id": ["a", "b", "a"], "item_id": [1, 2, 3], "timestamp": [1, 2, 3]})
        >>> path = Path(tempfile.mkdtemp()) / "log.parquet"
        >>> log.write_parquet(path)
        >>> X, _ = Impressions.from_parquet(path)
        >>> X.catalog.ids[X.history.row(2)]
        array([1])
        """
        if users is not None and not is_frame(users):
            raise TypeError(
                "users must be a table with one row a user, got "
                f"{type(users).__name__}. Make one of columns of the log, for example with "
                "pyarrow.dataset."
            )
        form = LogFormat(user, item, time, order, label, history, column_names(context), duplicates)
        read, y = read_parquet_log(files, catalog, form, folder)
        X = cls(**read)
        return (X if users is None else X.with_users(users, user=user)), y

    def append(
        self,
        log: Frame,
        catalog: ItemCatalog | None = None,
        *,
        users: Frame | Sequence[str] | None = None,
    ) -> tuple[Impressions, Any]:
        """Return these rows with those of a further log behind them, as if it were one log.

        Histories go on: those of the new rows hold what the user did in both logs. Columns mean
        what they meant in `from_log`, with the same label and kind of history.

        Parameters
        ----------
        log : pandas.DataFrame, polars.DataFrame or pyarrow.Table
            Further events, in any order, with the columns that `from_log` was given.
        catalog : ItemCatalog, default=None
            The items, in any order, with all of the present ones. None keeps the present
            catalogue. Items of the log that it lacks are added to it without content, with a
            warning unless the catalogue knows nothing but ids.
        users : DataFrame or Table, or list of str, default=None
            Attributes of users, as in `from_log`. What it does not tell of a user is what earlier
            logs and tables of users told, also of users who had not done anything then.

        Returns
        -------
        X : Impressions of n_rows + n_new rows
            The present rows, in their order, then those of `log`: equal to what `from_log` makes of
            both logs together. The present rows stay what they are, unless an event comes late:
            one that lies before a present row of its user joins the history of that row.
        y : ndarray of shape (n_rows + n_new,), int64, or None
            The clicks of all rows; None if `from_log` was given no label.

        Raises
        ------
        ValueError
            If these are not all rows of a log but a selection, say, or steps of a pipeline have
            added to them; if one log has times and the other has none, or in another unit, or
            dates with a zone and the other without; or as in `from_log`.
        TypeError
            If ids or a column are of another type than before, or as in `from_log`.

        Warns
        -----
        UserWarning
            As in `from_log`.

        Examples
        --------
        >>> import pandas as pd
        >>> monday = pd.DataFrame({"user_id": [1, 1], "item_id": [5, 6], "timestamp": [10, 20]})
        >>> tuesday = pd.DataFrame({"user_id": [2, 1], "item_id": [6, 7], "timestamp": [30, 40]})
        >>> X, _ = Impressions.from_log(monday)
        >>> X, _ = X.append(tuesday)
        >>> X
        Impressions(4 rows, 2 users, 3 items, history 0-2)
        >>> X[2:].to_frame("pandas")[["user_id", "item_id", "history"]]
           user_id  item_id history
        0        2        6      []
        1        1        7  [5, 6]
        """
        X = self if catalog is None else self.with_catalog(catalog)
        form, events = X._as_log()
        read, y = read_log(log, X.catalog, form, events)
        read["_zone"] = read.get("_zone") or self._zone
        new = Impressions(**read)._with_users_of(users, log, form)
        if self.user_attributes or users is not None:
            new = new._knowing(self._known_users.completed_by(new._known_users))
        return new, y

    def _as_log(self) -> tuple[LogFormat, Events]:
        """Return how the log was read, and its rows; ValueError where these are not its rows."""
        record = self._log
        if record is None:
            raise ValueError(
                f"{self!r} can't be appended to, as it is a part of the rows of a log, or was made "
                "otherwise. Append to the impressions that from_log or append returned, and "
                "select rows afterwards."
            )
        added = set(self.context) ^ set(record.format.context)
        for name, column in (("borrowed", self.borrowed), ("fold", self.fold)):
            added |= set() if column is None else {name}
        if self._embedding is not None or self._encoder is not None:
            added.add("user_embedding")
        if added:
            raise ValueError(
                f"X has other columns than from_log made ({', '.join(sorted(added))}), which a "
                "log does not have. Append to the impressions that from_log or append returned, "
                "and let the steps of the pipeline transform the result."
            )
        seconds = record.seconds
        if record.place is None and self.time is not None:
            seconds = np.where(np.isfinite(self.time), self.time, np.nan)
        label = None if record.label is None else record.label.astype(np.int64)
        context = dict(self.context)
        return record.format, Events(
            self.users, self.user, self.target, label, seconds, record.place, context, record.zoned
        )

    @classmethod
    def from_frame(cls, frame: Frame, catalog: ItemCatalog | None = None) -> Impressions:
        """Read a table with one row an impression, as `to_frame` writes it.

        Parameters
        ----------
        frame : pandas.DataFrame, polars.DataFrame or pyarrow.Table
            Columns `user_id`, `item_id`, `history` (a list column of item ids, oldest first);
            optionally `timestamp`, `history_feedback`, `history_timestamp`, `user_embedding`
            and the `borrowed` columns. Columns that begin with ``user.``, such as `user.age`, are
            attributes of users. Any further column is context.
        catalog : ItemCatalog, default=None
            The items; without one, the items that occur, known by their ids alone.

        Returns
        -------
        Impressions

        Raises
        ------
        TypeError, ValueError
            If a column is missing or holds what it should not; the message names it.

        Examples
        --------
        >>> import pandas as pd
        >>> Impressions.from_frame(pd.DataFrame(
        ...     {"user_id": [1], "item_id": ["c"], "history": [["a", "b"]], "hour": [7]}))
        Impressions(1 rows, 1 users, 3 items, history 2-2, context: hour)
        """
        return cls(**read_rows(frame, catalog))

    def _frame_columns(self) -> dict[str, Callable[[], Any]]:
        """Return the columns of the table, each as a function that makes its values.

        Names are needed far more often than values (`shape` counts them).
        """
        columns: dict[str, Callable[[], Any]] = {
            "user_id": lambda: self.user_ids,
            "item_id": lambda: self.item_ids,
            **self.history.columns("history", lambda: self.catalog.ids),
        }
        if self.time is not None:
            columns["timestamp"] = lambda: self.time
        columns |= {name: partial(self.context.__getitem__, name) for name in self.context}
        columns |= {
            column_name(name): lambda entries=entries: entries[self.user].column()  # type: ignore[misc]
            for name, entries in self.user_attributes.items()
        }
        if self._embedding is not None or self._encoder is not None:
            columns["user_embedding"] = lambda: self.user_embedding
        if self.borrowed is not None:
            columns |= self.borrowed.columns("borrowed", lambda: self.catalog.ids)
        return columns

    def to_frame(self, frame: str = "pandas") -> Any:
        """Write a table with one row an impression, ids instead of codes.

        Parameters
        ----------
        frame : {"pandas", "polars", "pyarrow"}, default="pandas"

        Returns
        -------
        pandas.DataFrame, polars.DataFrame or pyarrow.Table
            ``Impressions.from_frame(X.to_frame(), X.catalog)`` gives the same impressions. The
            column `user_fold` holds `fold`, where a step has set it.
        """
        columns = {name: make() for name, make in self._frame_columns().items()}
        if self.fold is not None and (self.fold != EVERYBODY).any():
            columns["user_fold"] = self.fold
        return make_frame(columns, frame)

    # --- how it looks ---------------------------------------------------------------------

    def __repr__(self) -> str:
        n_users = np.count_nonzero(count_codes(self.user, len(self.users)))
        parts = [f"{len(self)} rows", f"{n_users} users"]
        parts.append(f"{len(self.catalog)} items")
        if len(self):
            parts.append(f"history {self.history.length.min()}-{self.history.length.max()}")
        if self.borrowed is not None:
            parts.append(f"borrowed by {np.count_nonzero(self.borrowed.length)} rows")
        if self.context:
            parts.append("context: " + ", ".join(self.context))
        if self.user_attributes:
            parts.append("users: " + ", ".join(self.user_attributes))
        return f"Impressions({', '.join(parts)})"

    def _repr_html_(self) -> str:
        return impressions_html(self)
