"""What answers are made with: a fitted model and a pool of donors, both of a named version."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from skmars.data import Impressions, ItemCatalog, Sequences
from skmars.persistence import Columns, Model
from skmars.persistence._saved import load_model
from skmars.pipeline._steps import with_classifier, with_pool
from skmars.retrieval import DonorPool
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.scoring._rows import log_format
from skmars.serving.store._current import AS_SAVED, OF_FIT, Current, model_of, version_folder
from skmars.serving.store._store import Store
from skmars.utils._folder import checksum_of
from skmars.utils._ids import Ids
from skmars.utils._values import as_objects


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A fitted model and its pool of donors, from which a scorer answers. Immutable.

    Made by `of` and `load`.

    Parameters
    ----------
    model : Model
        Its pipeline borrows from the pool. Of its histories, the items, the attributes of users and
        the kind of times are used; the events come from a store.
    versions : mapping of str to str
        "params": "." for the model as it was saved, or else a folder below it: "params/2" for
        parameters that have learnt since, "fits/1" for a model that was fitted anew, and
        "fits/1/params/2". "pool": "fit" for the pool that the model was fitted with, or else a
        folder such as "pools/3" or "fits/1/pools/3".
    checksum : bytes, default=None
        Of the folder that the model was loaded from; None if it was not.
    written : mapping of str to float, default={}
        When the folders of "params" and "pool" were written, in seconds since 1970.

    Attributes
    ----------
    pipeline : Pipeline
    catalog : ItemCatalog
    columns : Columns

    Raises
    ------
    TypeError
        If the pipeline does not predict probabilities.
    ValueError
        If a column other than the times orders the events, since a store has no such column.
    """

    model: Model
    versions: Mapping[str, str]
    checksum: bytes | None = None
    written: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not hasattr(self.pipeline, "predict_proba"):
            raise TypeError(
                "the pipeline of the model must predict probabilities, but "
                f"{type(self.pipeline).__name__} has no predict_proba. Let it end in a classifier."
            )
        log_format(self.model)  # raises where a store can't keep what orders the events

    @property
    def pipeline(self) -> Pipeline:
        return self.model.pipeline

    @property
    def catalog(self) -> ItemCatalog:
        return self.model.histories.catalog

    @property
    def columns(self) -> Columns:
        return self.model.columns

    @classmethod
    def of(
        cls, model: Model, pool: DonorPool | None = None, versions: Mapping[str, str] | None = None
    ) -> Snapshot:
        """Return a snapshot of a model in memory.

        Parameters
        ----------
        model : Model
        pool : DonorPool, default=None
            None takes the pool that the model was fitted with.
        versions : mapping of str to str, default=None
            Names of "params" and "pool", where they are not those of the model as it was saved.
        """
        if not isinstance(model, Model):
            raise TypeError(
                f"model must be a skmars.persistence.Model, got {type(model).__name__}."
            )
        if pool is not None:
            model = replace(model, pipeline=with_pool(model.pipeline, pool))
        return cls(model, {"params": AS_SAVED, "pool": OF_FIT, **(versions or {})})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], store: Store) -> Snapshot:
        """Load the versions of a model that a store says are current.

        Parameters
        ----------
        folder : str or path-like
            Folder of a saved model, with the folders of further versions below it.
        store : Store
            Its pointers name such folders. Where there is none, the model as it was saved is
            taken, and the pool that it was fitted with.

        Raises
        ------
        OSError, ValueError
            If a folder is not there, or does not hold what it should; if parameters or a pool
            belong to another model.
        """
        current = Current.of(store)
        return cls.load_versions(folder, current.params, current.pool)

    @classmethod
    def load_versions(
        cls,
        folder: str | os.PathLike[str],
        params: str | None = None,
        pool: str | None = None,
        *,
        loaded: Snapshot | None = None,
    ) -> Snapshot:
        """Load versions of a model by their names.

        Parameters
        ----------
        folder : str or path-like
        params, pool : str, default=None
            As in `versions`; None is the model as it was saved, and the pool of its fit.
        loaded : Snapshot, default=None
            One of the same folder. What it has of these versions is not read again, unless the
            model was replaced.

        Raises
        ------
        OSError, ValueError
            As of `load`. The message names the version.
        """
        params, pool = params or AS_SAVED, pool or OF_FIT
        versions, name = {"params": params, "pool": pool}, model_of(params)
        if pool != OF_FIT and model_of(pool) != name:
            raise ValueError(
                f"the pool {pool} belongs to another model than the parameters {params}: let both "
                "pointers name versions of one model."
            )
        path = version_folder(folder, name)
        checksum = checksum_of(path)
        if checksum is None or (loaded is not None and loaded.checksum != checksum):
            loaded = None  # another model, or it was replaced: others will load what is there now
        if loaded is not None and loaded.versions == versions:
            return loaded
        # The classifier and the pool of the fit are not in memory where others took their place.
        has = {"params": "", "pool": OF_FIT} if loaded is None else loaded.versions
        if loaded is None or name == params != has["params"] or pool == OF_FIT != has["pool"]:
            model, has = load_model(path), {"params": name, "pool": OF_FIT}
            if checksum_of(path) != checksum:
                raise ValueError(f"{path} was replaced while it was read. Try again.")
        else:
            model = loaded.model
        if has["params"] != params:
            learnt = Parameters.load(version_folder(folder, params))
            learnt.check_belongs_to((checksum or b"").hex(), params)
            model = replace(model, pipeline=with_classifier(model.pipeline, learnt.classifier))
        if has["pool"] != pool:
            donors = DonorPool.load(version_folder(folder, pool))
            model = replace(model, pipeline=with_pool(model.pipeline, donors))
        written = {
            "params": _written(version_folder(folder, params)),
            "pool": _written(path if pool == OF_FIT else version_folder(folder, pool)),
        }
        return cls(model, versions, checksum, written)

    def check(self) -> None:
        """Score what is sure to come: new users, users with a history, and an unknown item.

        Raises
        ------
        ValueError
            If a probability is none (NaN, say), or the pipeline fails. The message names the
            versions.
        """
        name = f"version {', '.join(f'{k} {v}' for k, v in self.versions.items())}"
        try:
            found = self.pipeline.predict_proba(self._probes())[:, 1]
        except Exception as error:
            raise ValueError(f"{name} can't score: {type(error).__name__}: {error}") from error
        # A network that is very sure says 0 or 1.
        if not ((found >= 0) & (found <= 1)).all():
            raise ValueError(
                f"{name} gives the probabilities {found.tolist()}, which should lie from 0 to 1. "
                "Keep the version before it."
            )

    def _probes(self) -> Impressions:
        """Return rows of a user without a history and of one with some, and an unknown item."""
        known = self.model.histories
        unknown = _other_than(known.catalog.ids)
        user = _other_than(known.users)
        n = min(3, len(known.catalog))
        events = Sequences(
            np.arange(n, dtype=np.int32),
            np.zeros(3, dtype=np.int64),
            np.array([0, n, n], dtype=np.int32),
            feedback=None if known.events.feedback is None else np.ones(n, dtype=np.int8),
            time=None if known.now is None else known.now - np.arange(n, 0, -1.0),
        )
        users = np.repeat(user, 3)
        context: dict[str, NDArray[Any]] = {
            column: np.zeros(3) if kind == "numbers" else as_objects([""] * 3)
            for column, kind in self.columns.context.items()
        }
        X = known.with_users(users, events, known.catalog.extend(unknown)).latest()
        items = np.array([0, 0, len(known.catalog)], dtype=np.int32)
        return replace(X, target=items, context=context)


def _other_than(ids: Ids) -> Ids:
    """Return an id, in an array, that is none of these and of their kind."""
    if ids.dtype == object:
        taken = set(ids.tolist())
        return as_objects(
            [next(n for i in range(len(ids) + 1) if (n := f"probe {i}") not in taken)]
        )
    free = np.setdiff1d(np.arange(len(ids) + 1), ids)
    return free[:1].astype(np.int64)


def _written(path: Path) -> float:
    return (path / "manifest.json").stat().st_mtime
