"""The pools of one model of a deployment, made of all events of a store."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skmars.data import Impressions
from skmars.data._activity import thresholds_of_counts
from skmars.persistence import Model
from skmars.persistence._saved import load_model
from skmars.pipeline._steps import augmenter_in, before_augmenter, with_pool
from skmars.retrieval import DonorPool
from skmars.serving.runner._activity import Activity, Map
from skmars.serving.runner._user_rows import catalog_of, user_rows, with_columns
from skmars.serving.scoring._rows import log_format
from skmars.serving.store._current import AS_SAVED, below, version_folder
from skmars.serving.store._numbered_folder import NumberedFolder, Publish
from skmars.serving.store._store import Store
from skmars.utils._folder import checksum_of, read_folder, write_folder

# Beside pools/3 stands pools/3.activity, what the next pool goes on from.
KIND = "activity of users"
# A new pool is tried with so many donors, of whom so many items are known.
TRIED, TRIED_ITEMS = 8, 2
# Scores may differ by this much from those of the pool as it was before it was written.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Published:
    """A pool that was published.

    Attributes
    ----------
    name : str
        As the service tells it: "pools/3", or "fits/1/pools/3".
    n_users, n_donors : int
        How many users have events, and how many of them are donors.
    """

    name: str
    n_users: int
    n_donors: int


class ModelPools:
    """Makes pools of the events of a store, for one model, and publishes them under its names.

    The model need not be the current one: one that was fitted anew gets its pool before it is
    switched to.

    Parameters
    ----------
    deployment : str or path-like
        Folder of a saved model.
    store : Store
    name : str, default="."
        The model: "." for the one as it was saved first, or one that was fitted anew ("fits/1").
    map : callable, default=map
        As that of `Runner`.

    Attributes
    ----------
    model : Model

    Raises
    ------
    OSError, ValueError
        If there is no model, or none that has a pool.
    """

    def __init__(
        self,
        deployment: str | os.PathLike[str],
        store: Store,
        name: str = AS_SAVED,
        map: Map = map,
    ) -> None:
        self._map = map
        self._path, self._store, self._name = version_folder(deployment, name), store, name
        self._checksum = checksum_of(self._path)
        self.model: Model = load_model(self._path)
        augmenter = augmenter_in(self.model.pipeline)
        if augmenter is None:
            raise ValueError(
                "the pipeline of the model has no SequenceRetrievalAugmenter: nothing is borrowed, "
                "and there is no pool to build. Fit a model that has one (`skmars fit` without "
                "--base)."
            )
        self._form = log_format(self.model)
        self._augmenter, self._digest = augmenter, (self._checksum or b"").hex()
        self._folder = NumberedFolder.of_pools(Path(deployment), store, name)

    def is_of(self, name: str) -> bool:
        """Return whether this model has a name, and is still what its folder holds."""
        checksum = checksum_of(self._path)
        return name == self._name and checksum is not None and checksum == self._checksum

    def remove_old(self, keep: int) -> None:
        """Remove all but the last `keep` pools, and what a killed process left."""
        self._folder.remove_old(keep)

    def update(self, position: int, publish: Publish) -> Published | None:
        """Publish a pool of all events up to a position of the store, if any of them are new.

        Parameters
        ----------
        position : int
            Of the store, now or a little earlier.
        publish : callable
            Lets a pointer of the store point to something, if the caller may still do so.

        Returns
        -------
        Published or None
            None if nothing is new, or there are no events at all.

        Raises
        ------
        OSError, ValueError
            If the pool can't be written, or does not work. The current one stays as it is.
        """
        known = self._known()
        if known is None or known.position > position:  # the store is another one
            activity = Activity.of(self._store, position, self._form, self._map)
        elif known.position == position:
            return None
        else:
            activity = known.brought_forward(self._store, position, self._form, self._map)
        if len(activity.users) == 0:
            return None
        pool, raw = self._build(activity)
        kept = {"model": self._digest, **vars(activity)}
        number = self._folder.save(
            pool.save,
            publish,
            check=lambda path: self._try(path, pool, raw),
            activity=lambda path: write_folder(path, KIND, kept),
        )
        name = below(self._name, self._folder.publish(number, publish))
        return Published(name, len(activity.users), len(pool.ids))

    def _known(self) -> Activity | None:
        """Return what belongs to the current pool, if it is undamaged, and that of this model."""
        current = self._folder.current()
        if current is None:
            return None
        path = self._folder.path / str(current)
        try:
            kept: Any = read_folder(f"{path}.activity", KIND)
            if kept.pop("model") == self._digest and path.is_dir():
                return Activity(**kept)
        except (OSError, ValueError, TypeError, KeyError):
            pass  # it can be made anew
        return None

    def _build(self, activity: Activity) -> tuple[DonorPool, Impressions]:
        """Return the pool, and the rows of users as they come into the pipeline."""
        augmenter = self._augmenter
        by_row = augmenter.activity == "row"
        low, high = thresholds_of_counts(
            activity.rows if by_row else np.bincount(activity.longest),
            augmenter.low_quantile,
            augmenter.high_quantile,
        )
        catalog = catalog_of(self._store, activity, self.model)
        raw = user_rows(self._store, activity, catalog, self._form, self._map)
        raw = with_columns(raw, self.model)
        _, X = before_augmenter(self.model.pipeline, raw)
        return DonorPool.build(augmenter, X, thresholds=(low, high)), raw

    def _try(self, path: Path, pool: DonorPool, raw: Impressions) -> None:
        """Raise ValueError unless the pool that was written scores as the one in memory does."""
        rows = raw[:TRIED]
        rows = replace(rows, history=rows.history.last(TRIED_ITEMS))
        try:
            read = DonorPool.load(path)
            if len(rows) == 0:
                return
            pipelines = [with_pool(self.model.pipeline, p) for p in (read, pool)]
            scores = [pipeline.predict_proba(rows)[:, 1] for pipeline in pipelines]
        except Exception as error:
            raise ValueError(
                f"the new pool {path} can't be used, and is removed: {error}"
            ) from error
        if not np.isfinite(scores).all() or np.abs(scores[0] - scores[1]).max() > TOLERANCE:
            raise ValueError(
                f"the new pool {path} gives other scores than before it was written, and is "
                "removed. Check the disk."
            )
