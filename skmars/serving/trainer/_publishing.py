"""Write a version of parameters, try what was written, and make it the current one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions
from skmars.pipeline._steps import classifier_in
from skmars.serving.scoring._parameters import Parameters
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import below
from skmars.serving.store._numbered_folder import NumberedFolder, Publish


def publish_version(
    deployment: Path,
    folder: NumberedFolder,
    state: Parameters,
    X: Impressions,
    p: NDArray[np.float64],
    snapshot: Snapshot,
    publish: Publish,
) -> str:
    """Publish parameters, and return their name, such as "params/2".

    Parameters
    ----------
    deployment : Path
    folder : NumberedFolder
        Of the parameters of the model.
    state : Parameters
    X : Impressions of n_rows rows
        As they come to the classifier.
    p : ndarray of shape (n_rows,)
        What it predicts for them.
    snapshot : Snapshot
        The model as it was fitted, with the pool that is current.
    publish : callable
        Lets a pointer of the store point to something, if the caller may still do so.

    Raises
    ------
    ValueError
        If what was written does not work; it is removed then.
    OSError
        If it can't be written.
    """

    model, pool = snapshot.versions["params"], snapshot.versions["pool"]

    def check(path: Path) -> None:
        name = below(model, folder.name(int(path.name)))
        read = Snapshot.load_versions(deployment, name, pool, loaded=snapshot)
        read.check()
        found = classifier_in(read.pipeline).predict_proba(X)[:, 1]
        if not np.array_equal(found, p):
            raise ValueError(
                f"the new version {path} predicts otherwise than before it was written, and is "
                "removed. Check the disk."
            )

    return below(model, folder.publish(folder.save(state.save, publish, check=check), publish))
