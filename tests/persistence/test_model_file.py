"""A model file is opened if it is the very file that was written, and if not, says why."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.pipeline import Pipeline

import skmars
from skmars import DINClassifier, make_multimodal_ctr
from skmars.data import ItemCatalog
from skmars.data._user_histories import UserHistories
from skmars.persistence import Columns, Model, load_model, save_model
from skmars.persistence._model_file import FORMAT


@pytest.fixture(scope="module")
def model() -> Model:
    X, y = make_multimodal_ctr(n_users=20, n_items=15, random_state=0)
    pipeline = Pipeline([("ctr", DINClassifier(max_iter=1, hidden_units=(4,), random_state=0))])
    return Model(pipeline.fit(X, y), Columns(user="who"), UserHistories.of(X), "last")


@pytest.fixture
def path(model: Model, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "m.skmars")
    return tmp_path / "m.skmars"


class Explosive:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the file has run')",))


def test_what_was_saved_is_loaded(model: Model, path: Path) -> None:
    loaded = load_model(str(path))
    assert loaded.columns == model.columns
    assert loaded.holdout == "last"
    X, _ = make_multimodal_ctr(n_users=20, n_items=15, random_state=0)
    expected = model.pipeline.predict_proba(X)
    np.testing.assert_array_equal(loaded.pipeline.predict_proba(X), expected)
    np.testing.assert_array_equal(loaded.histories.users, model.histories.users)
    assert os.listdir(path.parent) == ["m.skmars"]


def test_no_flipped_bit_is_opened(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(joblib, "load", lambda file: pytest.fail("a damaged file is unpickled"))
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    rng = np.random.default_rng(0)
    places = [*range(head * 8), *rng.integers(head * 8, len(whole) * 8, 300)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="m.skmars"):
            load_model(path)


def test_what_is_no_model_is_not_opened(model: Model, path: Path) -> None:
    whole = path.read_bytes()
    head, _, rest = whole.partition(b"\n")
    version = skmars.__version__.encode()
    for content, message in {
        b"": "empty",
        b"\n": "not a model",
        b"user_id,item_id\n1,2\n": "not a model",
        b"x" * 1000: "not a model",
        b"skmars-model": "not a model",
        b"skmars-model \xff \xff \n": r"format \\xff",
        head: "damaged or incomplete",
        whole[: len(whole) // 2]: "damaged or incomplete",
        whole[:-1]: "damaged or incomplete",
        whole + b"\n": "damaged or incomplete",
        whole[:500] + whole[501:]: "damaged or incomplete",
        head + b"\n" + rest[::-1]: "damaged or incomplete",
        whole.replace(b" %d " % FORMAT, b" 1 ", 1): "format 1",
        whole.replace(version, b"0.0.7", 1): r"skmars 0\.0\.7; .*Fit it again",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            load_model(path)
        assert str(path) in str(caught.value)
    joblib.dump(Explosive(), path)
    with pytest.raises(ValueError, match="not a model"):
        load_model(path)


@pytest.mark.skipif(os.name != "posix", reason="has a pipe")
def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, error, message in [
        (tmp_path / "none", FileNotFoundError, "none does not exist.*skmars fit"),
        (tmp_path, IsADirectoryError, "folder"),
        (tmp_path / "pipe", OSError, "pipe"),
        (Path("/dev/zero"), OSError, "/dev/zero is a device"),
    ]:
        with pytest.raises(error, match=message):
            load_model(path)


def test_what_an_installed_package_can_not_open_says_so(path: Path, monkeypatch) -> None:
    monkeypatch.delattr("skmars.ctr._din.DINClassifier")
    with pytest.raises(ValueError, match=r"m\.skmars can't be opened.*DINClassifier.*Fit it again"):
        load_model(path)


def test_only_models_are_saved(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"model must be a skmars\.persistence\.Model, got dict"):
        save_model({}, path)
    assert path.read_bytes() == before


def test_what_can_not_be_pickled_leaves_the_earlier_file(model: Model, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        save_model(replace(model, holdout=lambda: None), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["m.skmars"]


def test_a_large_model_is_in_memory_once(model: Model, tmp_path: Path) -> None:
    features = np.zeros((1_000, 25_000), dtype=np.float32)
    catalog = ItemCatalog(range(1_000), features={"text": features})
    large = replace(model, histories=replace(model.histories, catalog=catalog))
    tracemalloc.start()
    try:
        save_model(large, tmp_path / "m.skmars")
        saving = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        loaded = load_model(tmp_path / "m.skmars")
        loading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert loaded.histories.catalog.features["text"].nbytes == features.nbytes == 100_000_000
    assert saving < 0.5 * features.nbytes
    assert loading < 1.5 * features.nbytes
