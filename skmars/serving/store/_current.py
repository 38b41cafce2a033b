"""Which versions of a deployment are current: names that a store keeps, each switched at once.

A deployment is the folder of a saved model. What came later lies below it, in folders that never
change: ``pools/3`` (donors), ``params/2`` (parameters), and ``fits/1``, a saved model that was
fitted anew, with pools and parameters of its own below it. Three pointers say what is current: the
model, and for each model its pool and its parameters. A new fit is made ready with its pool before
the one pointer that all look at first is switched, so that nobody mixes the two.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from skmars.serving.store._store import Store

# Names of the model as it was saved first, of its parameters, and of the pool of its fit.
AS_SAVED, OF_FIT = ".", "fit"
MODEL, PARAMS, POOL = "model", "params", "pool"
# Pointer that tells how the trainer goes, as JSON.
TRAINER_STATUS = "trainer/status"
# Of a model that was fitted anew: the position of the store up to which it knows the stream.
POSITION = "position"
# Names of the folders that hold versions.
FITS, POOLS = "fits", "pools"


@dataclass(frozen=True)
class Current:
    """The names of what is current: folders below that of the deployment.

    Attributes
    ----------
    model : str
        "." for the model as it was saved first, or else a folder such as "fits/1".
    params : str
        The same, for the parameters of its fit, or else a folder such as "fits/1/params/2".
    pool : str
        "fit" for the pool of its fit, or else a folder such as "fits/1/pools/3".
    """

    model: str = AS_SAVED
    params: str = AS_SAVED
    pool: str = OF_FIT

    @classmethod
    def of(cls, store: Store, model: str | None = None) -> Current:
        """Ask a store, of the current model if none is named."""
        model = model or store.pointer(MODEL) or AS_SAVED
        params, pool = store.pointer(below(model, PARAMS)), store.pointer(below(model, POOL))
        return cls(
            model,
            model if params in (None, AS_SAVED) else below(model, params),
            OF_FIT if pool in (None, OF_FIT) else below(model, pool),
        )

    def __str__(self) -> str:
        return f"params {self.params}, pool {self.pool}"

    def without_later(self) -> list[Current]:
        """Return what to begin with where these versions are broken: of them what works.

        First one without the pool or the parameters, since seldom both are; then the model as it
        was fitted, and then the one that was saved first.
        """
        others = [
            Current(self.model, self.params),
            Current(self.model, self.model, self.pool),
            Current(self.model, self.model),
            Current(),
        ]
        return [other for other in dict.fromkeys(others) if other != self]


def below(model: str, name: str) -> str:
    """Return the name of what belongs to a model: a folder, or a pointer of the store."""
    return name if model == AS_SAVED else f"{model}/{name}"


def model_of(version: str) -> str:
    """Return the name of the model that a pool or parameters belong to, or that a version is."""
    return "/".join(Path(version).parts[:2]) if version.startswith(f"{FITS}/") else AS_SAVED


def version_folder(deployment: str | os.PathLike[str], version: str) -> Path:
    """Return the folder of a version; ValueError if that is not below the deployment."""
    path = Path(version)
    if path.is_absolute() or ".." in path.parts or "\0" in version:
        raise ValueError(
            f"version {version!r} must be a folder below {os.fspath(deployment)}, such as "
            "'pools/3'."
        )
    return Path(deployment, path)
