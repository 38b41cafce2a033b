"""Parameters that have learnt from the stream: a version, and what training goes on from."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skmars.utils._folder import read_folder, write_folder

KIND = "parameters"


@dataclass(frozen=True, eq=False)
class Parameters:
    """A classifier, and the place in the stream up to which it has learnt.

    All of it is written at once, so that no event is learnt twice or left out, wherever the
    process is killed.

    Parameters
    ----------
    classifier : estimator
        The last step of the pipeline, with its optimiser.
    model : str
        Digest of the folder of the saved model that it belongs to.
    position : int
        Of the last event that it has learnt.
    learnt : ndarray of shape (n,), uint64
        Hashes of the last events that it has learnt or left out, the newest last.
    pool : str
        Name of the pool from which the rows of the next events borrow.
    next_pool : str
        Name of the pool that takes its place; "" if there is none yet.
    next_from : int
        Events up to this position may be known to `next_pool`, so that it is not theirs.
    n_events : int
        How many events it has learnt since the fit.
    n_skipped : int
        How many events were left out, since no row can be made of them.
    began : float
        Arrival of the first event of the period that the last one belongs to; NaN before the first.
    n_items : int
        How many items the store had by the last event; 0 where no negatives are drawn of them.
    """

    classifier: BaseEstimator
    model: str
    position: int
    learnt: NDArray[np.uint64]
    pool: str
    next_pool: str = ""
    next_from: int = 0
    n_events: int = 0
    n_skipped: int = 0
    began: float = math.nan
    n_items: int = 0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as a folder; what was there is replaced at once, or stays as it is."""
        write_folder(path, KIND, dict(vars(self)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Parameters:
        """Read them; ValueError if the folder holds something else, or a bit of it has changed."""
        kept: Any = read_folder(path, KIND)
        if not isinstance(kept, dict) or kept.keys() != cls.__dataclass_fields__.keys():
            raise ValueError(f"{os.fspath(path)} holds no parameters of this version of skmars.")
        return cls(**kept)

    def check_belongs_to(self, digest: str, name: str) -> None:
        """Raise ValueError if they were learnt by another model than this one."""
        if self.model != digest:
            raise ValueError(
                f"{name} belongs to another model than the one that is in this folder now, which "
                "was replaced since. Put the model that it was made for back, or let the store "
                "name other parameters."
            )
