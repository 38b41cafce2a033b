"""Score a table of any length on a cluster: Ray Data in, Ray Data out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._frames import Table
from skmars.distributed._cluster import n_cpus, ray
from skmars.persistence import Model
from skmars.persistence._modules import import_modules
from skmars.persistence._saved import load_model
from skmars.persistence._tables._arrow import arrow
from skmars.persistence._tables._columns import named
from skmars.persistence._tables._rows import (
    PROBABILITY,
    probabilities,
    require_columns,
    with_ids_of,
)
from skmars.serving import Snapshot, Store, open_store
from skmars.serving.scoring._histories import ItemNumbers, user_histories
from skmars.serving.scoring._rows import until
from skmars.serving.store._current import Current
from skmars.utils._folder import checksum_of
from skmars.utils._ids import factorize

# What a dataset that comes from no file is called in messages.
ROWS = "rows"


def predict(
    model_folder: str | os.PathLike[str],
    rows: Any,
    *,
    store: str | Store | None = None,
    n_actors: int | None = None,
    batch_size: int = 4096,
    modules: Sequence[str] = (),
) -> Any:
    """Add the probability of a click to each row of a dataset, on a cluster of Ray.

    It is what ``skmars predict`` does with a table that one process can hold, and the probabilities
    are the same.

    Parameters
    ----------
    model_folder : str or path-like
        Folder of a saved model with histories (`skmars.persistence.Model`), where every machine
        of the cluster finds it.
    rows : ray.data.Dataset, str or path-like
        Users, items, and times and context if there are any, under the names that they had in the
        log of the model; further columns stay as they are. Or a Parquet file or folder of these.
    store : str or Store, default=None
        Takes the histories, the parameters and the pool of donors from a store (see `open_store`)
        as they are now: later events and versions change nothing. None takes those of the model
        as it was saved.
    n_actors : int, default=None
        How many processes load the model, and take a CPU each. None leaves one CPU in four, and
        one at least, to the tasks that read and write.
    batch_size : int, default=4096
        Rows that are predicted together.
    modules : sequence of str, default=()
        Modules to import before the model is loaded: they register classes of your own.

    Returns
    -------
    ray.data.Dataset
        The rows with a column "probability", float64. It is computed when it is consumed:
        ``predict(...).write_parquet(path)`` needs memory for a few blocks alone.

    Raises
    ------
    ValueError
        If a column is missing, or holds ids of another kind than the model; if there is a
        column "probability" already; if actors would take all CPUs; if the folder holds an
        estimator without histories.
    TypeError
        If `rows` or `store` is something else.
    OSError
        If there is no such folder or store.
    ImportError
        If Ray is not installed.

    See Also
    --------
    skmars.serving.Scorer : Answers single requests.

    Notes
    -----
    Each row comes out once. Rows keep their order in a block; blocks come in the order in which
    they get ready, unless ``DataContext.get_current().execution_options.preserve_order`` is true.

    A row that can't be read fails when the dataset is consumed. Ray's error has the message that
    ``skmars predict`` would give, and says with which row the batch begins from which it counts.

    Actors, rather than all CPUs at once: where actors held every CPU, the tasks that read the rows
    would wait for one for ever.

    Examples
    --------
    >>> import ray  # doctest: +SKIP
    >>> from skmars.distributed import predict
    >>> rows = ray.data.read_parquet("s3://shop/tomorrow/")  # doctest: +SKIP
    >>> predict("shop", rows).write_parquet("s3://shop/scores/")  # doctest: +SKIP
    """
    data, name = ray("ray.data"), ROWS
    if isinstance(rows, str | os.PathLike):
        name = os.fspath(rows)
        rows = data.read_parquet(name)
    elif not isinstance(rows, data.Dataset):
        raise TypeError(
            f"rows must be a ray.data.Dataset or the path of Parquet files, got "
            f"{type(rows).__name__}. ray.data.from_pandas and from_arrow make one of a table."
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    n_actors = _actors(n_actors)
    import_modules(modules)
    source = _Source.of(Path(model_folder).absolute(), store)
    model, checksum = source.load()
    _check_columns(rows, name, model)
    return rows.map_batches(
        _Predictor,
        fn_constructor_args=(replace(source, checksum=checksum), name, tuple(modules)),
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=data.ActorPoolStrategy(size=n_actors),
        num_cpus=1,
    )


def _actors(n_actors: int | None) -> int:
    """Return a number of actors that leaves a CPU to others."""
    n = n_cpus()
    if n < 2:
        raise ValueError(
            f"the cluster has {n} CPU, and needs 2: one for an actor that predicts, and one for "
            "the tasks that read the rows. On a single machine, ray.init(num_cpus=2) says so."
        )
    if n_actors is None:
        return max(1, n - max(1, n // 4))
    if not 1 <= n_actors < n:
        raise ValueError(
            f"n_actors must be from 1 to {n - 1}, got {n_actors}: of the {n} CPUs of the cluster, "
            "one must be left to the tasks that read the rows, or they wait for ever."
        )
    return n_actors


@dataclass(frozen=True)
class _Source:
    """What all actors take alike: one model, versions of its parts, events up to a position.

    Parameters
    ----------
    folder : Path
    store : Store or None
        None where histories are those of the model. A pickle of it is its address.
    current : Current
        Versions, where there is a store.
    position : int
    checksum : bytes or None
        Of the folder of the model, as it was when the first process loaded it.
    """

    folder: Path
    store: Store | None
    current: Current
    position: int
    checksum: bytes | None = None

    @classmethod
    def of(cls, folder: Path, store: str | Store | None) -> _Source:
        """Take what is current now."""
        if store is None:
            return cls(folder, None, Current(), 0)
        opened = open_store(store) if isinstance(store, str) else store
        if not hasattr(opened, "histories"):
            raise TypeError(
                "store must be an address, such as 'redis://host:6379/0', or a store, got "
                f"{type(store).__name__}."
            )
        try:
            return cls(folder, opened, Current.of(opened), opened.position)
        finally:
            if opened is not store:
                opened.close()

    def load(self) -> tuple[Model, bytes | None]:
        """Load the model, and return its checksum, too."""
        if self.store is None:
            model, checksum = load_model(self.folder), checksum_of(self.folder)
        else:
            current = self.current
            snapshot = Snapshot.load_versions(self.folder, current.params, current.pool)
            model, checksum = snapshot.model, snapshot.checksum
        if self.checksum not in (None, checksum):
            raise ValueError(
                f"{self.folder} holds another model here than where predict was called. Let all "
                "machines see the same folder, and call it again."
            )
        return model, checksum


class _Predictor:
    """An actor: it loads the model once, and adds probabilities to batches of rows."""

    def __init__(self, source: _Source, name: str, modules: Sequence[str]) -> None:
        import_modules(modules)
        self._source, self._name = source, Path(name)
        self._model, _ = source.load()
        self._numbers = None if source.store is None else ItemNumbers(source.store)

    def __call__(self, rows: Any) -> Any:
        try:
            found = self._predict(rows) if len(rows) else np.zeros(0)
        except Exception as error:
            columns = self._model.columns
            first = {name: rows[name][0].as_py() for name in (columns.user, columns.item)}
            error.add_note(f"Rows are counted from that with {first} on, the first of a batch.")
            raise
        return rows.append_column(PROBABILITY, [found])

    def _predict(self, rows: Any) -> NDArray[np.float64]:
        model, source = self._model, self._source
        if source.store is None or self._numbers is None:
            return probabilities(model, rows, self._name)
        rows = with_ids_of(model, rows, self._name)
        users, _ = factorize(named(self._name, Table(rows, ROWS).ids, model.columns.user))
        events, _ = source.store.histories(users.tolist())
        histories, _ = user_histories(users, until(events, source.position), self._numbers, model)
        return probabilities(model, rows, self._name, histories)


def _check_columns(rows: Any, name: str, model: Model) -> None:
    """Raise ValueError if a dataset can't be read as rows of a model, without reading it."""
    schema = rows.schema()
    if schema is None:
        raise ValueError(f"{name} has no rows. Pass one row for each user and item to predict.")
    known = schema.base_schema
    if not isinstance(known, arrow().Schema):  # of pandas, whose objects may be anything
        known = arrow().schema([(column, arrow().null()) for column in schema.names])
    table = known.empty_table()
    require_columns(table, Path(name), model.columns)
    with_ids_of(model, table, Path(name))
    if PROBABILITY in table.column_names:
        raise ValueError(
            f"{name} has a column {PROBABILITY!r} already, which predict would add. Rename it, or "
            "drop it."
        )
