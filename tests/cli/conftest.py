"""A log, items and candidates as a person without a notebook has them: files in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skmars import make_multimodal_ctr
from skmars.cli import main

from .shop import FAST, write


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with log, items, pictures and candidates, as CSV and as Parquet."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("shop")
    X, y = make_multimodal_ctr(n_users=40, n_items=30, random_state=0, history="all")
    catalog = X.catalog
    (folder / "pictures").mkdir()
    for i, picture in zip(catalog.ids, catalog.content["image"]):
        Image.fromarray(np.asarray(picture)).save(folder / f"pictures/{i}.png")
    log = {"user_id": X.user_ids, "item_id": X.item_ids, "timestamp": X.time, "clicked": y}
    items = {
        "item_id": catalog.ids,
        "title": catalog.titles,
        "text": list(catalog.content["text"]),
        "image": [f"pictures/{i}.png" for i in catalog.ids],
    }
    # Users 0 to 2 and an unknown one, known items and an unknown one.
    rows = {"user_id": [2, 0, 1, 99_999], "item_id": [5, 6, 77_777, 5]}
    for name, columns in (("log", log), ("items", items), ("rows", rows)):
        write(folder, f"{name}.csv", columns)
        write(folder, f"{name}.parquet", columns)
    return folder


@pytest.fixture(scope="session")
def model(folder: Path) -> Path:
    """MARS, fitted without each user's last impressions."""
    path = folder / "model.skmars"
    files = [str(folder / "log.parquet"), "--items", str(folder / "items.parquet")]
    assert main(["fit", *files, "--out", str(path), "--holdout", "last", *FAST]) == 0
    return path
