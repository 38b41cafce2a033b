"""A model that learns: what it has learnt, what is current, and how its rows are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from skmars.pipeline._steps import augmenter_in, classifier_in
from skmars.serving.scoring._histories import ItemNumbers
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import AS_SAVED, OF_FIT, Current, version_folder
from skmars.serving.store._numbered_folder import NumberedFolder, Publish
from skmars.serving.store._store import Store, Streamed
from skmars.serving.trainer._beginning import beginning
from skmars.serving.trainer._checkpoint import CHECKPOINT, begun, resumed
from skmars.serving.trainer._learning import Rows, check_trainable, items_by_then, made_rows
from skmars.utils._files import sync_folder
from skmars.utils._folder import checksum_of
from skmars.utils._ids import as_ids, check_same_kind


class Training:
    """The model of a deployment that is current now, from where it has learnt to.

    Parameters
    ----------
    deployment : Path
    store : Store
    current : Current
        What is current now.
    told : callable
        Called with a line of text when something is amiss.

    Attributes
    ----------
    name, digest : str
        Of the model.
    snapshot : Snapshot
        The model as it was fitted, with the pool that rows borrow from.
    state : Parameters
        What was learnt so far.
    folder : NumberedFolder
        Of the versions of its parameters.
    """

    def __init__(
        self, deployment: Path, store: Store, current: Current, told: Callable[[str], Any]
    ) -> None:
        self.name, self._deployment, self._store = current.model, deployment, store
        self._told = told
        self.digest = digest_of(deployment, current.model)
        self.snapshot = Snapshot.load_versions(deployment, current.model)
        check_trainable(self.snapshot.model)
        self._numbers = ItemNumbers(store)
        self._numbers.read()
        self._numbers.codes(self.snapshot.catalog)  # raises where ids are of another kind
        self.folder = NumberedFolder.of_params(deployment, store, current.model)
        self._pools = NumberedFolder.of_pools(deployment, store, current.model)
        self._version: tuple[str, Parameters | None] = AS_SAVED, None
        version = None
        try:
            version = self._folder_of(current)
        except ValueError as error:  # a pointer to somewhere else
            told(f"the current parameters can't be used, and are left out: {error}")
        state, amiss = resumed(self.folder.path, version, self.digest)
        for line in amiss:
            told(line)
        if state is None:
            position = beginning(current.model, self.snapshot.model, store)
            state = begun(classifier_in(self.snapshot.pipeline), self.digest, position)
            state = self.with_next_pool(state)
        self.state = self._with_usable_pool(state)

    def is_of(self, current: Current) -> bool:
        """Return whether this model is the current one, and is still what its folder holds."""
        return self.name == current.model and self.digest == digest_of(self._deployment, self.name)

    def make(self, events: Sequence[Streamed]) -> Rows:
        """Return the rows of some events as they come to the classifier."""
        known = self.state.n_items
        return made_rows(self.snapshot.model, self._numbers, self._store, events, known)

    def items_by_then(self, events: Sequence[Streamed]) -> int:
        """Return how many items the store had by some events, if negatives are drawn of them."""
        if not self.snapshot.model.negatives:
            return 0
        return max(self.state.n_items, items_by_then(self._numbers, events))

    def check_kinds(self, event: Streamed) -> None:
        """Raise TypeError if ids of the store are of another kind than those of the model."""
        known, what = self.snapshot.model.histories, "the log of the model"
        for name, value, ids in (
            ("user_id of the store", event.user_id, known.users),
            ("item_id of the store", event.item_id, known.catalog.parts[0].ids),
        ):
            check_same_kind(as_ids([value], name), name, ids, what)

    # --- files ------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint: a folder that is replaced at once."""
        if not self.folder.path.is_dir():
            self.folder.path.mkdir(exist_ok=True)
            sync_folder(self.folder.path.parent)
        self.state.save(self.folder.path / CHECKPOINT)

    def current(self) -> Parameters | None:
        """Return the current version of the parameters; None for those of the fit.

        Or if it can't be used, so that those of the fit are what there is.
        """
        name = Current.of(self._store).params
        if name != self._version[0]:
            found = None
            with suppress(FileNotFoundError, NotADirectoryError, ValueError):
                path = self._folder_of(Current(self.name, name))
                found = None if path is None else Parameters.load(path)
            if found is not None and found.model != self.digest:
                found = None
            self._version = name, found
        return self._version[1]

    def _folder_of(self, current: Current) -> Path | None:
        if current.params == self.name:
            return None
        return version_folder(self._deployment, current.params)

    # --- pools ------------------------------------------------------------------------------

    def pool_of(self, current: Current) -> str:
        """Return the name of the pool that is current, if the model borrows."""
        return OF_FIT if augmenter_in(self.snapshot.pipeline) is None else current.pool

    def borrowing_from(self, pool: str) -> Snapshot:
        """Return the model as it was fitted, with another pool."""
        return Snapshot.load_versions(self._deployment, self.name, pool, loaded=self.snapshot)

    def with_next_pool(self, state: Parameters) -> Parameters:
        """Return a state whose rows will borrow from the pool that is current now.

        Not those of events that may be in the pool: it would know what became of them. Until such
        events are over, no other pool is looked for.
        """
        pool = self.pool_of(Current.of(self._store))
        if state.next_pool or pool == state.pool:
            return state
        return replace(state, next_pool=pool, next_from=self._store.position)

    def _with_usable_pool(self, state: Parameters) -> Parameters:
        """Take the pool of a state or, if it can't be used, that of the fit.

        Not the current one: it may know what became of the events that come next.
        """
        try:
            self.snapshot = self.borrowing_from(state.pool)
        except (OSError, ValueError) as error:
            if state.pool == OF_FIT:
                raise
            self._told(f"the pool {state.pool} can't be used, and that of the fit is: {error}")
            self.snapshot = self.borrowing_from(OF_FIT)
            state = self.with_next_pool(replace(state, pool=OF_FIT, next_pool="", next_from=0))
        return state

    def switch_pool(self, position: int) -> None:
        """Let rows borrow from the next pool, if this position is beyond what it knows.

        If it can't be used, they go on with the one that they borrow from.
        """
        pool, kept = self.state.next_pool, self.state.pool
        if pool and position > self.state.next_from:
            try:
                self.snapshot = self.borrowing_from(pool)
            except (FileNotFoundError, NotADirectoryError, ValueError) as error:
                self._told(f"the pool {pool} can't be used, and {kept} stays: {error}")
                pool = kept
            self.state = replace(self.state, pool=pool, next_pool="", next_from=0)

    def hold(self, *states: Parameters, publish: Publish) -> None:
        """Let the pools stay on the disk that the rows of these states borrow from."""
        prefix = "" if self.name == AS_SAVED else f"{self.name}/"
        pools = {pool for state in states for pool in (state.pool, state.next_pool)}
        self._pools.hold([pool.removeprefix(prefix) for pool in pools - {"", OF_FIT}], publish)


def digest_of(deployment: Path, model: str) -> str:
    """Return a digest of the folder of a model; "" while there is none."""
    return (checksum_of(version_folder(deployment, model)) or b"").hex()
