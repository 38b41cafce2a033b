"""Go back to an earlier version of a deployment: its parameters, its pool, or the whole model."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from skmars.serving.refits._refit import LEASE as REFIT
from skmars.serving.runner._runner import LEASE as RUNNER
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import (
    AS_SAVED,
    FITS,
    MODEL,
    OF_FIT,
    PARAMS,
    POOL,
    Current,
    below,
    model_of,
    version_folder,
)
from skmars.serving.store._held_lease import HeldLease
from skmars.serving.store._store import LeaseHeld, Store
from skmars.serving.trainer._checkpoint import CHECKPOINT
from skmars.serving.trainer._trainer import LEASE as TRAINER
from skmars.utils._files import sync_folder

_NUMBER = "[1-9][0-9]*"
_MODEL = re.compile(rf"\.|{FITS}/{_NUMBER}")
_OF_MODEL = re.compile(rf"(?:{FITS}/{_NUMBER}/)?(params|pools)/(0|{_NUMBER})")
SECONDS = 60.0  # of the lease, if the process is killed


def rollback(deployment: str | os.PathLike[str], store: Store, version: str) -> Current:
    """Let an earlier version of a deployment be the current one again.

    It is loaded and has to score some rows first, with the pool or the parameters that it will be
    used with. The service switches to it by itself.

    Parameters
    ----------
    deployment : path
        Folder of a saved model.
    store : Store
    version : str
        Name of a version, as answers of the service tell it.

        "params/2" or "fits/1/params/2" are parameters of the current model; number 0 are those of
        its fit. No trainer may work meanwhile. The checkpoint is removed, so that the next trainer
        goes on from this version, and learns again what came since.

        "pools/3" or "fits/1/pools/3" is a pool of the current model; number 0 is that of its fit.
        No runner may work meanwhile. The next one makes a pool of all events again.

        "." or "fits/1" is a whole model, with the pool and the parameters that it had.

    Returns
    -------
    Current
        The names of what is current now: `model`, `params` and `pool`.

    Raises
    ------
    LeaseHeld
        If a trainer (for parameters), a runner (for a pool) or a refit (for a model) works for this
        store: the message says which, and what to do.
    StaleLease
        If one may have begun since: nothing was published then.
    OSError
        If there is no such version, or it can't be read.
    ValueError
        If the name is none of a version, the version belongs to a model that is not current, or it
        does not work. Nothing has changed then.

    Examples
    --------
    >>> from skmars.serving import open_store, rollback
    >>> rollback("deployment", open_store("lmdb:store"), "params/2")  # doctest: +SKIP
    Current(model='.', params='params/2', pool='pools/3')
    """
    deployment = Path(deployment)
    of_model = _OF_MODEL.fullmatch(version)
    if _MODEL.fullmatch(version):
        name, go_back = REFIT, _to_model
    elif of_model:
        name, go_back = (TRAINER, _to_params) if of_model[1] == PARAMS else (RUNNER, _to_pool)
    else:
        raise ValueError(
            f"version {version!r} is none that one can go back to. Name parameters (params/2, "
            "fits/1/params/2; those of the fit are params/0), a pool (pools/3, fits/1/pools/3; "
            "that of the fit is pools/0), or a model ('.' for the one that was saved first, "
            "fits/1)."
        )
    try:
        with HeldLease(store, name, SECONDS) as lease:
            return go_back(deployment, store, version, lease)
    except LeaseHeld as error:
        raise LeaseHeld(f"stop the {name} first, nothing has changed. {error}") from error


def _to_params(deployment: Path, store: Store, version: str, lease: HeldLease) -> Current:
    now = _current(store, version)
    wanted = Current(now.model, now.model if _is_of_fit(version) else version, now.pool)
    other = Current(now.model, now.model, now.pool)
    _check(deployment, wanted, Current(now.model, wanted.params), other)
    # First, or a trainer that begins when this process is killed would undo it. Without it, one
    # goes on from the current version, and learns the same again.
    lease.check()
    folder = version_folder(deployment, below(now.model, PARAMS))
    if (folder / CHECKPOINT).exists():
        shutil.rmtree(folder / CHECKPOINT)
        sync_folder(folder)
    value = AS_SAVED if _is_of_fit(version) else _last_two(version)
    lease.publish(below(now.model, PARAMS), value)
    return wanted


def _to_pool(deployment: Path, store: Store, version: str, lease: HeldLease) -> Current:
    now = _current(store, version)
    wanted = Current(now.model, now.params, OF_FIT if _is_of_fit(version) else version)
    other = Current(now.model, now.params)
    _check(deployment, wanted, Current(now.model, now.model, wanted.pool), other)
    value = OF_FIT if _is_of_fit(version) else _last_two(version)
    lease.publish(below(now.model, POOL), value)
    return wanted


def _to_model(deployment: Path, store: Store, version: str, lease: HeldLease) -> Current:
    now, wanted = Current.of(store), Current.of(store, version)
    if version == now.model != now.params:
        raise ValueError(
            f"the model {version} is current already, with the parameters {now.params}. For "
            f"those of its fit, name {below(version, PARAMS)}/0."
        )
    _works(deployment, wanted)
    lease.publish(MODEL, version)
    return wanted


def _current(store: Store, version: str) -> Current:
    """Return what is current; ValueError if the version belongs to another model."""
    now, model = Current.of(store), model_of(version)
    if model != now.model:
        raise ValueError(
            f"{version} belongs to the model {model}, and {now.model} is current. Go back to the "
            f"model first (`skmars rollback {model}`), or name a version of {now.model}."
        )
    return now


def _check(deployment: Path, wanted: Current, alone: Current, other: Current) -> None:
    """Raise unless a version works.

    If it does so `alone`, with what the fit made, and the `other` that it is used with does not, it
    is as good as it can be: where both are broken, one has to begin with one of them.
    """
    try:
        _works(deployment, wanted)
    except (OSError, ValueError):
        if alone == wanted:
            raise
        _works(deployment, alone)
        try:
            _works(deployment, other)
        except (OSError, ValueError):
            return
        raise


def _works(deployment: Path, versions: Current) -> None:
    Snapshot.load_versions(deployment, versions.params, versions.pool).check()


def _is_of_fit(version: str) -> bool:
    return version.endswith("/0")


def _last_two(version: str) -> str:
    """Return the name of a version below its model, as its pointer has it."""
    return "/".join(version.split("/")[-2:])
