"""A whole refit: a new item space, pool and parameters, of all events that a store has."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skmars.data import Impressions, ItemCatalog
from skmars.data._catalog import require_catalog
from skmars.data._known_users import KnownUsers
from skmars.data._user_columns import of_table
from skmars.data._user_histories import UserHistories
from skmars.model_selection import sample_negatives
from skmars.persistence import Model, save
from skmars.persistence._saved import load_model
from skmars.pipeline._steps import augmenter_in
from skmars.serving.refits._catalog import check_pictures, told_anew
from skmars.serving.refits._fitted import check_fits
from skmars.serving.refits._log import events_until, items_of, rows_of
from skmars.serving.refits._trial import Trial, tried
from skmars.serving.runner._model_pools import ModelPools
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import OF_FIT, POSITION, Current, below, version_folder
from skmars.serving.store._held_lease import HeldLease
from skmars.serving.store._numbered_folder import NumberedFolder
from skmars.serving.store._store import Store, StreamTrimmed
from skmars.serving.trainer._beginning import beginning, known_position

LEASE = "refit"


@dataclass(frozen=True)
class Refit:
    """What a refit did.

    Attributes
    ----------
    model : str or None
        The model that is current now, such as "fits/1"; None if it was refused, since its trial
        went worse.
    pool : str or None
        Its pool, such as "fits/1/pools/1"; None if it borrows nothing.
    position : int
        Position of the store up to which the model knows the streamed events.
    n_rows, n_users, n_items : int
        Of the log that it was fitted to; rows are 0 for a model that was fitted elsewhere.
    trial : Trial
        How it predicts the events that came since, of which neither has learnt, and how the current
        one does.
    """

    model: str | None
    pool: str | None
    position: int
    n_rows: int
    n_users: int
    n_items: int
    trial: Trial


Watch = Callable[[Pipeline], AbstractContextManager[Any]]


def refit(
    deployment: str | os.PathLike[str],
    store: Store,
    *,
    items: ItemCatalog | Sequence[ItemCatalog] = (),
    users: Any = None,
    fitted: str | os.PathLike[str] | None = None,
    keep: int = 2,
    worse_by: float | None = 0.1,
    lease: float = 60.0,
    random_state: int = 0,
    watch: Watch | None = None,
) -> Refit:
    """Fit the whole model of a deployment anew to all events of its store, and let it take over.

    The pipeline of the current model is cloned and fitted to what `Impressions.from_log` makes of a
    log of all events in the order of arrival. The new model is written to ``fits/N`` of the
    deployment, with a pool of its own, and is tried; then the store names it as the current one, so
    that item space, pool and parameters change at once. Service, runner and trainer follow.

    Whatever fails, and wherever the process is killed, what was current stays current. The next
    refit removes what this one left.

    Parameters
    ----------
    deployment : path
        Folder of a saved model.
    store : Store
    items : ItemCatalog or sequence of ItemCatalog, default=()
        Content of new items, and of known ones that have changed: what it has of the content,
        attributes and features that the model knows counts, of several catalogues that of the last.
        All else stays what the model has; items that only the store has are known by their ids.
    users : DataFrame or Table, default=None
        Attributes of users, one row a user. What it lacks is what the model has.
    fitted : path, default=None
        Folder of a model that was fitted elsewhere, to take over in the same way. Models with
        context columns need it: a store has no context of events that came from a log.
    keep : int, default=2
        How many fits stay on the disk, the current one among them. The first model always stays.
    worse_by : float or None, default=0.1
        The new model and the current one predict the events that came since, if there are 50 at
        least. If the log loss of the new one is larger by more than this, it is refused. None
        refuses none.
    lease : float, default=60.0
        Seconds for which no other refit can begin after this one was killed.
    random_state : int, default=0
        Of the negatives that are drawn for a model that was fitted with some.
    watch : callable, default=None
        Called with the pipeline; gives a context in which it is fitted, to show progress.

    Returns
    -------
    Refit

    Raises
    ------
    LeaseHeld
        If another refit works for this store: the message says which, and until when.
    StaleLease
        If another refit may have begun since: nothing has changed then.
    OSError
        If something can't be read or written, or the pictures of the items are gone.
    ValueError
        If the store has no events to fit to, the model has context columns, or the new model does
        not work or does not fit the deployment.
    TypeError
        If ids are integers in the store and strings in the model, or the other way round.

    Examples
    --------
    >>> from skmars.serving import open_store, refit
    >>> done = refit("deployment", open_store("lmdb:store"))  # doctest: +SKIP
    >>> done.model  # doctest: +SKIP
    'fits/1'
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}: the current fit is kept.")
    if worse_by is not None and not worse_by >= 0:
        raise ValueError(f"worse_by must be at least 0, or None to refuse none; got {worse_by}.")
    tables = [items] if isinstance(items, ItemCatalog) else list(items)
    if fitted is not None and (tables or users is not None):
        raise ValueError(
            "fitted names a model that is fitted already: items and users would change nothing. "
            "Leave them out, or fit that model with them."
        )
    deployment, watch = Path(deployment), watch or (lambda pipeline: nullcontext())
    with HeldLease(store, LEASE, lease) as held:
        now = Current.of(store)
        current = Snapshot.load_versions(deployment, now.params, now.pool)
        fits = NumberedFolder.of_fits(deployment, store)
        fits.path.mkdir(exist_ok=True)  # raises before the work where nothing can be written
        fits.remove_old(keep)
        begun, n_rows = store.position, 0
        if fitted is None:
            model, n_rows = _fitted_anew(
                current.model, store, begun, tables, users, random_state, watch
            )
            position = begun
        else:
            model = load_model(fitted)
            check_fits(model, current.model, store)
            position = known_position(model, store)
            begun = max(position, _learnt(deployment, now, current.model, store))
            current = _as_it_was(deployment, now, current)
        # What the current model has learnt of the stream, it had learnt when it was loaded.
        trial = tried(model, current.model, store, begun)
        n_users, n_items = len(model.histories.users), len(model.histories.catalog)
        if trial.is_worse(worse_by):
            return Refit(None, None, position, n_rows, n_users, n_items, trial)
        number = fits.save(lambda path: save(model, path), held.publish)
        name = fits.name(number)
        try:
            pool = None
            if augmenter_in(model.pipeline) is not None:
                made = ModelPools(deployment, store, name).update(store.position, held.publish)
                pool = None if made is None else made.name
            Snapshot.load_versions(deployment, name, pool).check()
            held.publish(below(name, POSITION), str(position))
        except BaseException:
            fits.remove(number)
            raise
        fits.publish(number, held.publish)
        fits.remove_old(keep)
        return Refit(name, pool, position, n_rows, n_users, n_items, trial)


def _learnt(deployment: Path, now: Current, model: Model, store: Store) -> int:
    """Return the position of the store up to which the current model knows the stream."""
    if now.params != now.model:
        return Parameters.load(version_folder(deployment, now.params)).position
    try:
        return beginning(now.model, model, store)
    except StreamTrimmed:
        return store.position


def _as_it_was(deployment: Path, now: Current, current: Snapshot) -> Snapshot:
    """Return the current model with a pool that knows nothing of what its parameters did not know.

    The current pool is newer, and may know what became of the events of a trial.
    """
    pool = OF_FIT
    if now.params != now.model:
        pool = Parameters.load(version_folder(deployment, now.params)).pool
    for name in dict.fromkeys([pool, OF_FIT]):
        try:
            return Snapshot.load_versions(deployment, now.params, name, loaded=current)
        except (OSError, ValueError):
            if name == OF_FIT:
                raise
    raise AssertionError


def _fitted_anew(
    current: Model,
    store: Store,
    position: int,
    items: Sequence[ItemCatalog],
    users: Any,
    random_state: int,
    watch: Watch,
) -> tuple[Model, int]:
    """Return a model like the current one, fitted to all events up to a position."""
    columns, histories = current.columns, current.histories
    if columns.context:
        raise ValueError(
            f"the model has context columns ({', '.join(columns.context)}), and a store does not "
            "keep the context of events that came from a log. Fit a model to the log, with `skmars "
            "fit LOG ... --out NEW`, and let it take over with `skmars refit --fitted NEW`."
        )
    ids, events = events_until(store, position)
    if not ids:
        raise ValueError("the store has no events to fit to. Load the log with `skmars runner`.")
    catalog, known = histories.catalog, histories.known
    for told in items:
        catalog = told_anew(catalog, require_catalog(told))
    check_pictures(catalog)
    if users is not None:
        known = _completed(known, KnownUsers(*of_table(users, columns.user)))
    numbered = items_of(store, events)
    X, y = rows_of(ids, events, catalog.extend(numbered), numbered, current, known)
    del ids, events  # a fit takes long, and X has what it needs
    if X.time is not None and not np.isfinite(X.time).any():
        raise ValueError(
            "no event of the store has a time, but those of the model have. Load its log."
        )
    train, clicked = X, y
    if current.negatives:
        train, clicked = _with_negatives(X[y == 1], current.negatives, random_state)
    if len(np.unique(clicked)) < 2:
        raise ValueError(
            f"all {len(clicked)} events of the store are of one class, from which nothing can be "
            "learnt. Load the log with its clicks and its rows that were not clicked."
        )
    pipeline = clone(current.pipeline)
    with watch(pipeline):
        pipeline.fit(train, clicked)
    histories = replace(UserHistories.of(X), known=known)
    return Model(pipeline, columns, histories, negatives=current.negatives), len(X)


def _with_negatives(X: Impressions, n: int, random_state: int) -> Any:
    try:
        return sample_negatives(X, n_negatives=n, random_state=random_state)
    except ValueError as error:
        raise ValueError(
            f"{error} The model was fitted with {n} negatives: fit one with fewer to the log, and "
            "let it take over with `skmars refit --fitted NEW`."
        ) from error


def _completed(known: KnownUsers, told: KnownUsers) -> KnownUsers:
    if known.attributes.keys() != told.attributes.keys():
        raise ValueError(
            f"users has the attributes {', '.join(told.attributes)}, and the model "
            f"{', '.join(known.attributes) or 'none'}. Name a table with the same columns."
        )
    return known.completed_by(told)
