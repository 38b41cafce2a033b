"""Which versions of a deployment are current: names that a store keeps, each switched at once.

A deployment is the folder of a saved model. What came later lies below it, in folders that never
change: ``pools/3`` (donors), ``params/2`` (parameters), and ``fits/1``, a saved model that was
fitted anew, with pools and parameters of its own below it. Three pointers say what is current: the
model, and for each model its pool and its parameters. A new fit is made ready with its pool before
the one pointer that all look at first is switched, so that nobody mixes the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from skmars.serving.store._store import Store

# Names of the model as it was saved first, of its parameters, and of the pool of its fit.
AS_SAVED, OF_FIT = ".", "fit"
MODEL, PARAMS, POOL = "model", "params", "pool"
# For a model that was fitted anew: the position of the store up to which it knows what was streamed.
POSITION = "position"


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
    def of(cls, store: Store) -> Current:
        """Ask a store."""
        model = store.pointer(MODEL) or AS_SAVED
        params, pool = store.pointer(below(model, PARAMS)), store.pointer(below(model, POOL))
        return cls(
            model,
            model if params is None else below(model, params),
            OF_FIT if pool is None else below(model, pool),
        )


def below(model: str, name: str) -> str:
    """Return the name of what belongs to a model: a folder, or a pointer of the store."""
    return name if model == AS_SAVED else f"{model}/{name}"


def model_of(params: str) -> str:
    """Return the name of the model that parameters belong to."""
    head, _, tail = params.rpartition(f"{PARAMS}/")
    return (head.rstrip("/") or AS_SAVED) if tail.isdecimal() else params
