"""A log in Parquet files, larger than memory: the same impressions as from the table in memory."""

from __future__ import annotations

import datetime
import errno
import gc
import os
import pickle
import uuid
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skmars import Impressions, ItemCatalog
from skmars.data import _log_on_disk, _parquet
from skmars.utils import _on_disk

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True, scope="module")
def small_parts():
    """Buckets, batches and blocks of a few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_log_on_disk, "BUCKET_ROWS", 5)
        patch.setattr(_log_on_disk, "MANY_IDS", 3)
        patch.setattr(_parquet, "BATCH", 4)
        patch.setattr(_on_disk, "BLOCK", 3)
        patch.setattr(_on_disk, "MANY", 2)
        yield


def optional(values: st.SearchStrategy[Any], n: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | values, min_size=n, max_size=n)


IDS = {
    pa.int64(): st.integers(-3, 6),
    pa.uint64(): st.sampled_from([1, 2, 3, 2**63 + 5]),
    pa.float64(): st.integers(0, 5).map(float),
    pa.string(): st.sampled_from(["a", "b", "ü", "d e"]),
    pa.dictionary(pa.int32(), pa.string()): st.sampled_from(["a", "b", "c"]),
    pa.decimal128(5, 0): st.integers(0, 5).map(Decimal),
}
MOMENTS = [datetime.datetime(2020, 1, day, tzinfo=datetime.UTC) for day in range(1, 9)]
TIMES = {
    pa.int64(): st.integers(0, 8),
    pa.float64(): st.sampled_from([0.5, 1.0, 2.0, float("inf")]),
    pa.timestamp("us", "Europe/Paris"): st.sampled_from(MOMENTS),
    pa.date32(): st.sampled_from(MOMENTS).map(datetime.datetime.date),
}
PLACES = {pa.int16(): st.integers(0, 4), pa.float32(): st.sampled_from([0.5, 1.5])}
CONTEXT = {
    pa.int8(): st.integers(0, 9),
    pa.int64(): st.integers(0, 9),
    pa.bool_(): st.booleans(),
    pa.float32(): st.sampled_from([0.5, 1.5]),
    pa.string(): st.sampled_from(["", "x", "y"]),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["x", "y"]),
    pa.decimal128(4, 2): st.sampled_from([Decimal("1.25"), Decimal("3.5")]),
}


@st.composite
def logs(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """A log with ties, unknown times and columns of all types, and how it is to be read."""
    n = draw(st.integers(1, 30))

    def column(types: dict[Any, st.SearchStrategy[Any]], *, missing: bool) -> Any:
        kind = draw(st.sampled_from(list(types)))
        values = types[kind]
        some = optional(values, n) if missing else st.lists(values, min_size=n, max_size=n)
        return pa.array(draw(some), kind)

    columns = {
        "user_id": column(IDS, missing=False),
        "item_id": column(IDS, missing=False),
        "timestamp": column(TIMES, missing=True),
        "step": column(PLACES, missing=False),
        "liked": pa.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))),
        "c 1/ä": column(CONTEXT, missing=draw(st.booleans())),
        "c2": column(CONTEXT, missing=draw(st.booleans())),
    }
    how = {
        "time": draw(st.sampled_from(["timestamp", None])),
        "order": draw(st.sampled_from(["step", None])),
        "label": draw(st.sampled_from(["liked", None])),
        "history": draw(st.sampled_from(["positive", "all"])),
        "duplicates": draw(st.sampled_from(["warn", "keep", "drop"])),
        "context": draw(st.sampled_from([(), ("c 1/ä",), ("c2", "c 1/ä")])),
    }
    return pa.table(columns), how


def outcome(read: Any, *args: Any, **how: Any) -> tuple[Any, list[str]]:
    """Impressions and clicks, or the type of the error; and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = read(*args, **how)
        except (TypeError, ValueError) as error:
            result = type(error)
    return result, [str(warning.message) for warning in caught]


def assert_same(a: Any, b: Any) -> None:
    """Equal to the bit, types included."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        same = a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()
        assert same
    elif isinstance(a, ItemCatalog):
        assert a.fingerprint == b.fingerprint
    elif isinstance(a, dict | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
            if isinstance(a, dict):
                assert_same(a[x], b[y])
    elif hasattr(a, "__dict__"):
        assert_same(*({k: v for k, v in vars(each).items() if k != "_disk"} for each in (a, b)))
    else:
        assert a == b


def write(folder: Path, log: Any, cuts: list[int]) -> list[Path]:
    """Write a table as several files, with row groups of three rows."""
    ends = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    paths = [folder / f"{uuid.uuid4().hex}.parquet" for _ in ends[1:]]
    for path, begin, end in zip(paths, ends, ends[1:]):
        pq.write_table(log.slice(begin, end - begin), path, row_group_size=3)
    return paths


@settings(max_examples=100)
@given(logs(), st.lists(st.integers(0, 30), max_size=2))
def test_the_same_as_from_the_table_in_memory(tmp_path_factory, drawn, cuts) -> None:
    log, how = drawn
    files = write(tmp_path_factory.getbasetemp(), log, cuts)
    in_memory, expected = outcome(Impressions.from_log, log, **how)
    on_disk, told = outcome(Impressions.from_parquet, files, **how)
    assert_same(on_disk, in_memory)
    assert told == expected
    for path in files:
        path.unlink()


@settings(max_examples=25)
@given(logs(), st.data())
def test_selections_pickles_and_further_logs(tmp_path_factory, drawn, data) -> None:
    log, how = drawn
    (path,) = write(tmp_path_factory.getbasetemp(), log, [])
    how["duplicates"] = "keep"
    in_memory, _ = outcome(Impressions.from_log, log, **how)
    on_disk, _ = outcome(Impressions.from_parquet, path, **how)
    path.unlink()
    if isinstance(in_memory, type):
        return
    (X, _), (Z, _) = in_memory, on_disk
    assert repr(Z) == repr(X)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(X), max_size=len(X))))
    numbers = data.draw(st.lists(st.integers(-len(X), len(X) - 1), max_size=20))
    for rows in (mask, np.array(numbers, dtype=int), slice(1, None, 2)):
        assert_same(Z[rows], X[rows])
        assert_same(pickle.loads(pickle.dumps(Z[rows])), X[rows])
    if how["context"] == ():
        assert_same(Z.latest(), X.latest())
        assert_same(outcome(Z.append, log)[0], outcome(X.append, log)[0])


LOG = pl.DataFrame(
    {
        "user_id": [1, 2, 1, 3, 2, 1],
        "item_id": ["a", "b", "c", "a", "a", "b"],
        "timestamp": [1, 2, 3, 4, 5, 6],
        "clicked": [1, 0, 1, 1, 0, 1],
    }
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    LOG.write_parquet(tmp_path / "log.parquet")
    return tmp_path / "log.parquet"


def test_temporary_files_go_with_the_last_row_that_needs_them(path: Path) -> None:
    X, y = Impressions.from_parquet(path, label="clicked")
    folder = Path(X._disk.folder)
    some = X[np.array([5, 1, 0, 2])]
    expected = some.to_frame("pandas").to_dict()
    del X, y
    gc.collect()
    assert some.to_frame("pandas").to_dict() == expected
    assert folder.exists()
    del some
    gc.collect()
    assert not folder.exists()


def test_a_named_folder_stays(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    X, _ = Impressions.from_parquet(path, folder=folder)
    expected = X.to_frame("polars")
    (before,) = {len(list(folder.iterdir()))}
    some = X[np.arange(4)]
    assert len(list(folder.iterdir())) > before
    del some
    gc.collect()
    assert len(list(folder.iterdir())) == before
    assert X.to_frame("polars").equals(expected)
    with pytest.raises(FileExistsError, match="not empty"):
        Impressions.from_parquet(path, folder=folder)
    assert X.to_frame("polars").equals(expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.parquet", "rows"]


def test_a_link_to_a_folder_is_that_folder(path: Path, tmp_path: Path) -> None:
    empty, link, dangling = (tmp_path / name for name in ("empty", "link", "dangling"))
    empty.mkdir()
    link.symlink_to(empty)
    dangling.symlink_to(tmp_path / "new")
    for folder in (link, dangling, tmp_path / "none" / ".." / "rows"):
        Impressions.from_parquet(path, folder=folder)
        assert list(folder.resolve().glob("*.rows"))
    assert {p.name for p in tmp_path.iterdir()} == {
        "log.parquet", "empty", "link", "dangling", "new", "rows"
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda log: pl.concat([log, log]),
        lambda log: log.head(3),
        lambda log: log.head(0),
        lambda log: log.with_columns(pl.col("user_id") + 1),
        lambda log: log.with_columns(item_id=log["item_id"] + log["item_id"]),
    ],
)
def test_files_that_change_while_they_are_read(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    log, scan = pl.read_parquet(path), _log_on_disk._scan

    def changed(*args: Any) -> Any:
        found = scan(*args)
        change(log).write_parquet(path)
        return found

    monkeypatch.setattr(_log_on_disk, "_scan", changed)
    with pytest.raises(ValueError, match="changed between"):
        Impressions.from_parquet(path, folder=tmp_path / "rows")
    assert not (tmp_path / "rows").exists()


def backed_by(X: Impressions) -> tuple[str, int]:
    base: Any = X.user
    while isinstance(base, np.ndarray):
        base = base.base
    return type(base).__name__, int(X.user.sum())


def test_workers_open_the_same_files(path: Path) -> None:
    X, _ = Impressions.from_parquet(path)
    run = joblib.Parallel(2, max_nbytes=1)
    assert run(joblib.delayed(backed_by)(X) for _ in range(2)) == [("mmap", 4)] * 2


def test_rows_that_lost_their_folder_go_elsewhere(path: Path, tmp_path: Path) -> None:
    X, _ = Impressions.from_parquet(path, folder=tmp_path / "rows")
    moved = pickle.loads(pickle.dumps(X))
    (tmp_path / "rows").rename(tmp_path / "gone")
    assert moved[np.arange(5)].to_frame("polars").equals(X[np.arange(5)].to_frame("polars"))
    assert not (tmp_path / "rows").exists()


def test_attributes_of_users_and_a_catalogue(path: Path) -> None:
    users = pl.DataFrame({"user_id": [2, 1], "age": [30, None]})
    catalog = ItemCatalog(["c", "b", "a"])
    X, _ = Impressions.from_parquet(path, catalog, users=users)
    expected, _ = Impressions.from_log(LOG, catalog, users=users)
    assert_same(X, expected)
    with pytest.raises(TypeError, match="one row a user"):
        Impressions.from_parquet(path, users=["age"])
    with pytest.warns(UserWarning, match="1 items of log are not in the catalogue"):
        Impressions.from_parquet(path, ItemCatalog(["a", "b"]))


def test_a_folder_of_files_comes_in_the_order_of_names(path: Path) -> None:
    LOG[:2].write_parquet(path.with_name("b.parquet"))
    LOG[2:].write_parquet(path.with_name("a.parquet"))
    path.unlink()
    X, _ = Impressions.from_parquet(path.parent)
    assert_same(X, Impressions.from_log(pl.concat([LOG[2:], LOG[:2]]))[0])


def test_bad_files_are_named(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"

    def refused(error: type[Exception], match: str, files: Any = None, **how: Any) -> None:
        files = [path, other] if files is None else files
        for folder in (None, tmp_path / "rows"):
            with pytest.raises(error, match=match):
                Impressions.from_parquet(files, folder=folder, **how)
        names = {p.name for p in tmp_path.iterdir()}
        assert names <= {"log.parquet", "other.parquet", "empty"}

    refused(FileNotFoundError, "other.parquet does not exist")
    (tmp_path / "empty").mkdir()
    refused(FileNotFoundError, "without any file", tmp_path / "empty")
    refused(ValueError, "empty list", [])
    refused(TypeError, "from_log", [LOG])
    refused(TypeError, "path", 5)
    whole = path.read_bytes()
    other.write_bytes(whole[: len(whole) // 2])
    refused(ValueError, r"other.parquet is no Parquet file, or is damaged or cut short")
    other.write_bytes(whole[:10] + b"\xff" * 60 + whole[70:])
    refused((ValueError, TypeError), "other.parquet")
    LOG.drop("item_id").write_parquet(other)
    refused(ValueError, r"other.parquet has no column 'item_id'")
    LOG.with_columns(pl.col("user_id").cast(str)).write_parquet(other)
    refused(ValueError, r"'user_id' holds .*string in .*other.parquet, but int64 in .*log.parquet")
    LOG[:0].write_parquet(other)
    refused(ValueError, "log has no rows", other)
    refused(ValueError, "log has no column 'sku'", path, item="sku")
    refused(ValueError, "named twice", path, label="item_id")
    LOG.with_columns(clicked=pl.Series([1, 0, 1, 1, 0, 2])).write_parquet(other)
    refused(ValueError, r"'clicked' of .*other.parquet \(rows from 4 on\) must be binary", other,
            label="clicked")  # fmt: skip
    LOG.with_columns(timestamp=pl.lit(None, pl.Int64)).write_parquet(other)
    refused(ValueError, "holds no time at all", other)
    LOG.with_columns(user_id=pl.Series([1, None, 1, 3, 2, 1])).write_parquet(other)
    refused(ValueError, r"'user_id' of .*other.parquet holds 1 missing ids", other)
    with pytest.raises(TypeError, match="folder must be a path"):
        Impressions.from_parquet(path, folder=5)
    with pytest.raises(FileExistsError, match="is a file"):
        Impressions.from_parquet(path, folder=other)
    with pytest.raises(OSError, match="can't be written"):
        Impressions.from_parquet(path, folder=tmp_path / "none" / "rows")


@pytest.mark.parametrize("n_written", range(0, 18, 3))
def test_a_full_disk_leaves_nothing_behind(path: Path, tmp_path, monkeypatch, n_written) -> None:
    append, left = _on_disk.ArrayFile.append, [n_written]

    def full(self: Any, part: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, part)

    monkeypatch.setattr(_on_disk.ArrayFile, "append", full)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    for folder in (None, tmp_path / "rows"):
        left[0] = n_written
        with pytest.raises(OSError, match="No space left on device.*make room"):
            Impressions.from_parquet(path, label="clicked", folder=folder)
        assert list((tmp_path / "tmp").iterdir()) == []
        assert sorted(p.name for p in tmp_path.iterdir()) == ["log.parquet", "tmp"]
    monkeypatch.setattr(_on_disk.ArrayFile, "append", append)
    X, _ = Impressions.from_parquet(path)
    n_files = len(list(Path(X._disk.folder).iterdir()))
    monkeypatch.setattr(_on_disk.ArrayFile, "append", full)
    left[0] = 1
    with pytest.raises(OSError, match="No space left on device.*make room"):
        X[np.arange(6)]
    assert len(list(Path(X._disk.folder).iterdir())) == n_files
