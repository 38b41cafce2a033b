"""Ids of CSV files are what stands there, and mean the same in log, items and rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from skmars.cli import main
from skmars.cli._tables import read_table
from skmars.persistence import load

from .shop import FAST_BASE, write

pa = pytest.importorskip("pyarrow")


def csv(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def ids(path: Path, kind: str | None = None) -> list:
    return read_table(path, {"id": kind})["id"].to_pylist()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["1", "20", "-3", "0"], [1, 20, -3, 0]),
        (["7", "007"], ["7", "007"]),
        (["7", "+7"], ["7", "+7"]),
        (["7", " 7", "7 "], ["7", " 7", "7 "]),
        (["7", "7.0"], ["7", "7.0"]),
        (["100000", "1e5"], ["100000", "1e5"]),
        (["0", "-0"], ["0", "-0"]),
        (["1", "NA", "b"], ["1", "NA", "b"]),
        (["1", "true"], ["1", "true"]),
        (["2026-01-01"], ["2026-01-01"]),
        ([str(2**63 - 1), str(-(2**63))], [2**63 - 1, -(2**63)]),
        ([str(2**63), "1"], [str(2**63), "1"]),
        ([str(2**63), "-1"], [str(2**63), "-1"]),
        ([str(2**64), "1"], [str(2**64), "1"]),
        (["9" * 30, "9" * 29 + "8"], ["9" * 30, "9" * 29 + "8"]),
        (["1", "NA", "", "nan"], [1, None, None, None]),  # missing among integers
        (["a", ""], ["a", None]),
        (["٣", "3"], ["٣", "3"]),
    ],
)
def test_a_column_is_integers_only_if_that_changes_no_id(tmp_path: Path, written, read) -> None:
    path = csv(tmp_path / "t.csv", "id,x\n" + "".join(f"{value},1\n" for value in written))
    assert ids(path) == read
    if None not in read:
        assert ids(path, "strings") == written


def test_integers_without_a_sign_are_read_as_elsewhere(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", f"id,x\n{2**64 - 1},1\n1,2\n")
    assert ids(path) == [str(2**64 - 1), "1"]
    assert ids(path, "integers") == [2**64 - 1, 1]


def test_a_value_late_in_a_large_file_counts(tmp_path: Path) -> None:
    numbers = [str(i) for i in range(300_000)]
    path = csv(
        tmp_path / "t.csv", "id,x\n" + "".join(f"{value},1\n" for value in [*numbers, "007"])
    )
    assert ids(path) == [*numbers, "007"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_and_marks(tmp_path: Path, separator: str, start: str, end: str) -> None:
    lines = [["id", "x"], ["007", "1"], ['"a\nb"', "2"], ['"a;b,\t""c"""', "3"]]
    path = csv(tmp_path / "t.csv", start + "".join(separator.join(line) + end for line in lines))
    table = read_table(path, {"id": None})
    assert table.to_pydict() == {"id": ["007", "a\nb", 'a;b,\t"c"'], "x": [1, 2, 3]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "can't be read as csv"),
        (b"\n\n", "can't be read as csv"),
        (b"id,x,x\n1,2,3\n", "several columns 'x'"),
        (b"id,x\n1,2\n3\n", "Expected 2 columns, got 1"),
        (b"id,x\n\xff,1\n", "invalid UTF8"),
        ("id,x\n1,2\n".encode("utf-16"), "UTF-8 text"),
        (b'id,x\n1,"two\n3,four\n', "unexpected end of data"),
        (b'id,x,y\n1,"two,3\n4,"five",6\n', "expected after"),
    ],
)
def test_files_that_are_no_csv(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        ids(path)
    assert str(path) in str(caught.value)


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    return (code, *capsys.readouterr())


LOG = "user_id,item_id,clicked\n" + "".join(
    f"{u},{i},{i % 2}\n" for u in (1, 2, 3) for i in (1, 2, 7)
)


def fit(capsys, tmp_path: Path, log: Path, *options: object) -> tuple[int, str, str]:
    out = ["--base", "--out", tmp_path / "m.skmars", "--history", "all", *FAST_BASE]
    return run(capsys, "fit", log, *out, *options)


def test_one_odd_id_makes_strings_of_all_in_every_table(capsys, tmp_path: Path) -> None:
    log = csv(tmp_path / "log.csv", LOG + "007,7,1\n007,1,0\n")
    items = csv(tmp_path / "items.csv", "item_id,title\n1,One\n2,Two\n07,Seven\n")
    code, _, err = fit(capsys, tmp_path, log, "--items", items)
    assert code == 0
    assert "1 of" in err or "7" in err  # item 7 is not item 07
    model = load(tmp_path / "m.skmars")
    assert model.histories.users.tolist() == ["007", "1", "2", "3"]
    assert set(model.histories.catalog.ids) == {"1", "2", "7", "07"}
    # Rows that look like integers are those users all the same; what was written comes back.
    for name in ("rows.csv", "newer.csv"):
        rows = csv(tmp_path / name, "user_id,item_id\n1,2\n2,07\n")
        code, out, _ = run(capsys, "predict", tmp_path / "m.skmars", rows, "--log", log)
        assert code == 0
        assert [line.split(",")[:2] for line in out.splitlines()[1:]] == [
            ['"1"', '"2"'],
            ['"2"', '"07"'],
        ]


def test_items_are_strings_if_the_log_has_them_so(capsys, tmp_path: Path) -> None:
    items = csv(tmp_path / "items.csv", "item_id,title\n1,One\n2,Two\n7,007\n")
    log = csv(tmp_path / "log.csv", LOG + "1,abc,1\n")
    assert fit(capsys, tmp_path, log, "--items", items)[0] == 0
    catalog = load(tmp_path / "m.skmars").histories.catalog
    assert catalog.ids.tolist() == ["1", "2", "7", "abc"]
    assert catalog.title(2) == "007"  # titles are text, too


def test_a_model_of_integers_takes_no_other_ids(capsys, tmp_path: Path) -> None:
    assert fit(capsys, tmp_path, csv(tmp_path / "log.csv", LOG))[0] == 0
    for odd in ("007", "1.0", " 1", "ann"):
        rows = csv(tmp_path / "rows.csv", f"user_id,item_id\n1,2\n{odd},2\n")
        code, _, err = run(capsys, "predict", tmp_path / "m.skmars", rows)
        assert code == 1
        for part in ("rows.csv", "'user_id'", f"{odd!r}, row 1", "integers"):
            assert part in err
    rows = csv(tmp_path / "rows.csv", "user_id,item_id\n1,2\nNA,2\n")
    code, _, err = run(capsys, "predict", tmp_path / "m.skmars", rows)
    assert code == 1
    assert "1 missing ids (first at" in err


def test_parquet_and_csv_have_to_agree(capsys, tmp_path: Path) -> None:
    strings = {"user_id": ["007", "1"] * 4, "item_id": ["1", "2"] * 4, "clicked": [0, 1, 1, 0] * 2}
    log = write(tmp_path, "log.parquet", strings)
    assert fit(capsys, tmp_path, log)[0] == 0
    rows = csv(tmp_path / "rows.csv", "user_id,item_id\n1,2\n")
    assert run(capsys, "predict", tmp_path / "m.skmars", rows)[0] == 0
    rows = write(tmp_path, "rows.parquet", {"user_id": [1], "item_id": ["2"]})
    code, _, err = run(capsys, "predict", tmp_path / "m.skmars", rows)
    assert code == 1
    assert "'user_id' holds integers" in err
    lists = write(tmp_path, "rows.parquet", {"user_id": [["1"]], "item_id": ["2"]})
    code, _, err = run(capsys, "predict", tmp_path / "m.skmars", lists)
    assert code == 1
    assert "user_id" in err
    code, _, err = fit(
        capsys, tmp_path, write(tmp_path, "log.parquet", strings | {"clicked": [[1]] * 8})
    )
    assert code == 1
    assert "'clicked'" in err


def test_dates_are_read_one_way(capsys, tmp_path: Path) -> None:
    head, rows = "user_id,item_id,timestamp,clicked\n", "1,1,{},1\n1,2,{},0\n2,1,{},1\n"
    for times in [
        ("2026-01-02", "2026-01-03 10:00:00", "2026-01-03T10:00:00.25"),
        ("2026-01-02T00:00:00Z", "2026-01-02T02:00:00+01:00", "2026-01-03T10:00Z"),
        ("1", "2.5", ""),
    ]:
        log = csv(tmp_path / "log.csv", head + rows.format(*times))
        assert fit(capsys, tmp_path, log)[0] == 0, times
    for times in [
        ("01/02/2026", "02/03/2026", "13/04/2026"),  # whose second of January is it?
        ("2026-01-02", "2026-01-02T02:00:00+01:00", "2026-01-03"),
        ("10:00:00", "11:00:00", "12:00:00"),
        ("true", "false", "true"),
        ("1", "2026-01-03", "soon"),
    ]:
        log = csv(tmp_path / "log.csv", head + rows.format(*times))
        code, _, err = fit(capsys, tmp_path, log)
        assert code == 1
        for part in ("log.csv", "'timestamp'", "2026-01-31 18:30:00", "--no-time"):
            assert part in err


def test_labels_that_are_not_known_are_no_clicks_nor_none(capsys, tmp_path: Path) -> None:
    columns = {"user_id": [1, 2, 3], "item_id": [1, 2, 3], "clicked": [5.0, float("nan"), 1.0]}
    log = write(tmp_path, "log.parquet", columns)
    code, _, err = fit(capsys, tmp_path, log, "--click-from", 4)
    assert code == 1
    assert "missing in 1 rows (first: row 1)" in err


def test_ids_are_strings_where_that_is_told(capsys, tmp_path: Path) -> None:
    log = csv(tmp_path / "log.csv", LOG)  # plain integers
    items = write(tmp_path, "items.parquet", {"item_id": [1, 2, 7], "title": ["a", "b", "c"]})
    assert fit(capsys, tmp_path, log, "--items", items, "--ids", "strings")[0] == 0
    model = load(tmp_path / "m.skmars")
    assert model.histories.users.tolist() == ["1", "2", "3"]
    assert model.histories.catalog.ids.tolist() == ["1", "2", "7"]
    assert model.histories.catalog.title(2) == "c"
    # What no integer is the same as stays a user of its own, and so do integers of Parquet files.
    rows = csv(tmp_path / "rows.csv", "user_id,item_id\n1,2\n01,2\n1e0,2\n")
    code, out, _ = run(capsys, "predict", tmp_path / "m.skmars", rows)
    assert code == 0
    p = [float(line.split(",")[2]) for line in out.splitlines()[1:]]
    assert p[0] != p[1] == p[2]
    rows = write(tmp_path, "rows.parquet", {"user_id": [1], "item_id": [2]})
    code, out, _ = run(capsys, "predict", tmp_path / "m.skmars", rows)
    assert code == 0
    assert float(out.splitlines()[1].split(",")[2]) == pytest.approx(p[0], rel=1e-5)
    rows = write(tmp_path, "rows.parquet", {"user_id": [1.0], "item_id": [2]})
    code, _, err = run(capsys, "predict", tmp_path / "m.skmars", rows)
    assert code == 1
    assert "'user_id'" in err


def test_uuids_are_the_same_ids_in_all_tables(capsys, tmp_path: Path) -> None:
    import uuid

    items = [uuid.UUID(int=i) for i in range(3)]
    rows = {"user_id": [1, 1, 2, 2], "item_id": [str(items[i]) for i in (0, 1, 1, 2)]}
    log = write(tmp_path, "log.csv", rows | {"clicked": [0, 1, 1, 0]})
    typed = pa.array([i.bytes for i in items], pa.uuid()) if hasattr(pa, "uuid") else None
    if typed is None:
        pytest.skip("pyarrow has no UUIDs")
    table = write(tmp_path, "items.parquet", {"item_id": typed, "title": ["a", "b", "c"]})
    code, _, err = fit(capsys, tmp_path, log, "--items", table, "--no-time")
    assert code == 0
    assert "not in the catalogue" not in err
    catalog = load(tmp_path / "m.skmars").histories.catalog
    assert catalog.ids.tolist() == [str(i) for i in items]
    rows = write(tmp_path, "rows.parquet", {"user_id": [1], "item_id": typed[:1]})
    assert run(capsys, "predict", tmp_path / "m.skmars", rows)[0] == 0
