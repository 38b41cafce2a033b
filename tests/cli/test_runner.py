"""The command `skmars runner`: files of a log, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skmars
from skmars import DINClassifier, Impressions, ItemCatalog, SequenceRetrievalAugmenter
from skmars.cli import main
from skmars.persistence import Columns, Model

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("lmdb")
pytest.importorskip("safetensors")
from pyarrow import csv, parquet  # noqa: E402
from sklearn.pipeline import Pipeline  # noqa: E402

from skmars.cli import _log_files  # noqa: E402
from skmars.retrieval import DonorPool  # noqa: E402
from skmars.serving import Pass, Runner, open_store  # noqa: E402
from skmars.serving.runner._loading import Loaded  # noqa: E402

N_ITEMS = 6
COLUMNS = Columns(user="who", item="what", time="when", label="liked", absolute=True)
BUSY, TERMINATED = 75, 143


def table(n: int, seed: int = 0, texts: bool = False) -> Any:
    rng = np.random.default_rng(seed)
    who, what = rng.integers(0, 12, n), rng.integers(0, N_ITEMS, n)
    return pyarrow.table(
        {
            "who": [f"u{u}" for u in who] if texts else who,
            "what": [f"i{i}" for i in what] if texts else what,
            "when": 1.7e9 + rng.integers(0, 10**6, n).astype(float),
            "liked": rng.integers(0, 2, n),
        }
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Save a model that was fitted to a small log with certain columns."""

    def save(texts: bool = False, **columns: Any) -> Path:
        log = table(200, seed=9, texts=texts)
        items = [f"i{i}" for i in range(N_ITEMS)] if texts else np.arange(N_ITEMS)
        features = np.random.default_rng(0).normal(size=(N_ITEMS, 3))
        roles = {"user": "who", "item": "what", "label": "liked"}
        X, y = Impressions.from_log(
            log, ItemCatalog(items, features={"text": features}), time="when", **roles
        )
        augmenter = SequenceRetrievalAugmenter(low_quantile=0.5)
        din = DINClassifier(max_iter=1, early_stopping=False, random_state=0)
        pipeline = Pipeline([("augment", augmenter), ("ctr", din)]).fit(X, y)
        path = tmp_path_factory.mktemp("deployment") / "model"
        model = Model.of(pipeline, X)
        skmars.save(replace(model, columns=replace(COLUMNS, **columns)), path)
        return path

    return save


def run(log: Path, model: Path, store: Path, *options: str) -> int:
    files = ["--log", str(log), "--model", str(model), "--store", f"lmdb:{store}"]
    return main(["runner", *files, *options])


def pool_of(model: Path, store: Path) -> DonorPool:
    opened = open_store(f"lmdb:{store}")
    try:
        return DonorPool.load(model / opened.pointer("pool"))
    finally:
        opened.close()


def of_library(model: Path, log: Any) -> DonorPool:
    known = skmars.load(model)
    X, _ = Impressions.from_log(
        log,
        known.histories.catalog,
        user="who",
        item="what",
        time="when",
        label="liked",
        duplicates="keep",
    )
    return DonorPool.build(known.pipeline.named_steps["augment"], X)


def assert_same(found: DonorPool, expected: DonorPool) -> None:
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.history.offsets.tolist() == expected.history.offsets.tolist()
    for name in ("items", "time"):
        ours, theirs = getattr(found.history, name), getattr(expected.history, name)
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(found.units, expected.units)
    assert (found.low_threshold, found.high_threshold) == (
        expected.low_threshold,
        expected.high_threshold,
    )


@pytest.mark.parametrize("texts", [False, True])
def test_a_folder_that_grows(
    saved: Callable[..., Path], tmp_path: Path, texts: bool, monkeypatch: Any, capsys: Any
) -> None:
    """Further files, further row groups, dates and clicks as the columns have them."""
    monkeypatch.setattr(_log_files, "BATCH", 7)
    model, store, log = saved(texts), tmp_path / "store", tmp_path / "log"
    parts = [table(n, seed=n, texts=texts) for n in (40, 30, 50)]
    (log / "day=2").mkdir(parents=True)
    parquet.write_table(parts[0], log / "a.parquet", row_group_size=16)
    assert run(log, model, store) == 0
    assert "loaded 40 rows of 1 files" in capsys.readouterr().err
    assert_same(pool_of(model, store), of_library(model, parts[0]))

    csv.write_csv(parts[1], log / "day=2" / "b.csv")
    (log / ".c.parquet").write_bytes(b"is being written")
    assert run(log, model, store, "--quiet") == 0
    assert capsys.readouterr().err == ""
    assert_same(pool_of(model, store), of_library(model, pyarrow.concat_tables(parts[:2])))

    whole = pyarrow.concat_tables([parts[0].slice(0, 40), parts[2]])
    with parquet.ParquetWriter(log / "a.parquet", whole.schema) as writer:
        writer.write_table(parts[0], row_group_size=16)
        writer.write_table(parts[2])
    assert run(log, model, store) == 0
    assert "loaded 50 rows of 1 files" in capsys.readouterr().err
    assert_same(pool_of(model, store), of_library(model, pyarrow.concat_tables(parts)))
    assert run(log, model, store) == 0
    assert "nothing is new" in capsys.readouterr().err


def test_columns_mean_what_they_meant_in_the_fit(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    """Stars, milliseconds, and ids of numbers as strings."""
    model = saved(click_from=4.0, time_format="milliseconds")
    log = table(60)
    odd = log.set_column(2, "when", pyarrow.array(np.asarray(log["when"]) * 1000))
    odd = odd.set_column(3, "liked", pyarrow.array(np.asarray(log["liked"]) * 2 + 2.5))
    odd = odd.append_column("further", pyarrow.nulls(60))
    parquet.write_table(odd, tmp_path / "log.parquet")
    assert run(tmp_path / "log.parquet", model, tmp_path / "store") == 0
    assert_same(pool_of(model, tmp_path / "store"), of_library(model, log))


def test_an_event_id_tells_events_apart(saved: Callable[..., Path], tmp_path: Path) -> None:
    model, log = saved(), table(60)
    twice = pyarrow.concat_tables([log, log.slice(0, 20)])
    ids = pyarrow.array([f"{i:03}" for i in [*range(60), *range(20)]])
    parquet.write_table(twice.append_column("event_id", ids), tmp_path / "log.parquet")
    assert run(tmp_path / "log.parquet", model, tmp_path / "store") == 0
    assert_same(pool_of(model, tmp_path / "store"), of_library(model, log))


def bad(name: str, values: Any, **written: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        log = table(60)
        log = (
            log.drop_columns(name)
            if values is None
            else log.set_column(log.column_names.index(name), name, pyarrow.array(values))
        )
        parquet.write_table(log, folder / "log.parquet", **written)
        return folder / "log.parquet"

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (bad("who", None), "log.parquet has no column 'who'"),
        (bad("when", None), "log.parquet has no column 'when'"),
        (bad("liked", None), "log.parquet has no column 'liked'"),
        (bad("who", ["ann"] * 60), "log.parquet.* column 'who' holds strings"),
        (bad("what", [None, *range(59)]), "log.parquet.*column 'what' of log holds 1 missing ids"),
        (bad("when", ["yesterday"] * 60), "log.parquet.* column 'when' must hold times"),
        (bad("when", [1.7e12] * 60), "log.parquet.* column 'when' holds numbers.* milliseconds"),
        (bad("liked", [3] * 60), "log.parquet.* column 'liked' must hold 0 and 1"),
        (bad("liked", [None, *[1] * 59]), "log.parquet.* column 'liked' is missing in 1 rows"),
    ],
)
def test_bad_columns_are_named(
    saved: Callable[..., Path], tmp_path: Path, capsys: Any, write: Any, message: str
) -> None:
    model = saved()
    assert run(write(tmp_path), model, tmp_path / "store") == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (model / "pools").exists()


def test_bad_files_are_named(saved: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    model, log = saved(), tmp_path / "log.parquet"
    log.write_bytes(b"PAR1 torn")
    assert run(log, model, tmp_path / "store") == 1
    assert "log.parquet can't be read as Parquet" in capsys.readouterr().err
    assert run(tmp_path / "none.parquet", model, tmp_path / "store") == 1
    assert "none.parquet does not exist" in capsys.readouterr().err
    (tmp_path / "log.json").touch()
    assert run(tmp_path / "log.json", model, tmp_path / "store") == 1
    assert "must end in .parquet or .csv" in capsys.readouterr().err
    parquet.write_table(table(60), log)
    assert run(log, model, tmp_path / "store") == 0
    parquet.write_table(table(60, seed=1), log)
    capsys.readouterr()
    assert run(log, model, tmp_path / "store") == 1
    assert "log.parquet has changed: the first 60 rows" in capsys.readouterr().err


@pytest.mark.parametrize("every", ["0s", "soon", "-5", ""])
def test_every_is_a_time_span(every: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["runner", "--model", "m", "--store", "lmdb:s", f"--every={every}"])
    told = capsys.readouterr().err
    assert "time span such as 60s" in told
    assert "a number of seconds" in told


def test_why_a_pass_fails_is_told_once(
    saved: Callable[..., Path], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    passes = [Pass(Loaded(), 0, failed=why) for why in ("away", "away", "full", "", "full")]
    monkeypatch.setattr(Runner, "passes", lambda *_: (done for done in passes))
    assert run(tmp_path, saved(), tmp_path / "store", "--every", "60", "--quiet") == 0
    lines = [f"skmars runner: {why} (It is tried again.)" for why in ("away", "full", "full")]
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.slow
def test_killed_and_begun_again_or_asked_to_end(
    saved: Callable[..., Path], tmp_path: Path, capsys: Any
) -> None:
    """A real process: SIGKILL at any time, another one beside it, SIGTERM."""
    model, store = saved(), tmp_path / "store"
    log = table(100_000)
    parquet.write_table(log, tmp_path / "log.parquet", row_group_size=1000)
    files = ["--log", tmp_path / "log.parquet", "--model", model, "--store", f"lmdb:{store}"]
    command = [sys.executable, "-m", "skmars", "runner", *map(str, files), "--lease", "3s"]

    def begun() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*command, "--every", "1h"], stderr=subprocess.PIPE)
        assert process.stderr is not None
        process.stderr.readline()  # a first batch is loaded, or all is
        return process

    for wait in (0.0, 0.4):
        process = begun()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(3)  # until the lease has run out

    with begun() as process:
        assert run(tmp_path / "log.parquet", model, store) == BUSY
        assert f"process {process.pid}" in capsys.readouterr().err
        for line in process.stderr or ():
            if b"published pools" in line:
                break
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait() == TERMINATED
    assert run(tmp_path / "log.parquet", model, store) == 0  # the lease was given back
    assert_same(pool_of(model, store), of_library(model, log))
