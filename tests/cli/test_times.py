"""Times of CSV and Parquet files: read as they are written or as told, and never guessed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars.cli import main
from skmars.persistence import load
from skmars.persistence._tables._times import check_format, with_times

from .shop import FAST_BASE, write

ALL = ["--history", "all", *FAST_BASE]

pa = pytest.importorskip("pyarrow")
PATH = Path("log.csv")


def read(values: list, form: str | None = None, type: object = None) -> list:
    """Return times as seconds."""
    column = with_times(pa.table({"at": pa.array(values, type)}), PATH, "at", form)["at"]
    if pa.types.is_timestamp(column.type):
        column = pa.compute.divide(column.cast(pa.int64()).cast(pa.float64()), 1e6)
    return column.to_pylist()


def seconds(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()


moments = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1))


@given(
    st.lists(moments, min_size=1, max_size=5),
    st.sampled_from(
        ["%d/%m/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%Y%m%d%H%M%S", "%d. %B %Y, %H.%M.%S"]
    ),
)
def test_a_told_format_reads_what_strftime_writes(times: list[datetime], form: str) -> None:
    expected = [t.replace(microsecond=0, tzinfo=UTC).timestamp() for t in times]
    assert read([t.strftime(form) for t in times], form) == expected


@given(
    st.lists(moments, min_size=1, max_size=5),
    st.sampled_from(["seconds", "milliseconds", "microseconds", "nanoseconds"]),
)
def test_a_told_unit_divides(times: list[datetime], unit: str) -> None:
    whole = [int(t.replace(tzinfo=UTC).timestamp()) for t in times]
    per = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}[unit]
    assert read([t * per for t in whole], unit) == pytest.approx(whole, abs=1e-6)


def test_a_date_of_two_meanings_is_refused_and_read_as_told() -> None:
    with pytest.raises(ValueError, match=r"log.csv: column 'at'.*--time-format %d/%m/%Y.*%m/%d/%Y"):
        read(["01/02/2026", "13/02/2026"])
    assert read(["01/02/2026", ""], "%d/%m/%Y") == [seconds(2026, 2, 1), None]
    assert read(["01/02/2026", "NA"], "%m/%d/%Y") == [seconds(2026, 1, 2), None]
    with pytest.raises(ValueError, match=r"'13/02/2026' in row 1"):
        read(["01/02/2026", "13/02/2026"], "%m/%d/%Y")
    assert read([20260201, 20260113], "%Y%m%d") == [seconds(2026, 2, 1), seconds(2026, 1, 13)]


def test_iso_dates_and_zones_are_read_as_they_are() -> None:
    assert read(["2026-01-31", "2026-01-31T18:30:00.25"]) == [
        seconds(2026, 1, 31),
        seconds(2026, 1, 31, 18, 30) + 0.25,
    ]
    half_past_five = seconds(2026, 1, 31, 17, 30)
    assert read(["2026-01-31 18:30:00+01:00", "2026-01-31T17:30Z"]) == [half_past_five] * 2
    for mixed in (["2026-01-31 18:30:00", "2026-01-31 18:30:00Z"], ["2026-01-31Z", "2026-01-31"]):
        with pytest.raises(ValueError, match="all of them with a zone or none"):
            read(mixed)
    zoned = ["31/01/2026 18:30 +0100", "31/01/2026 17:30 Z"]
    assert read(zoned, "%d/%m/%Y %H:%M %z") == [half_past_five] * 2
    # A table of datetimes needs no format, and is not touched by one.
    stamp = [datetime(2026, 1, 31)]
    assert read(stamp, "%d/%m/%Y", pa.timestamp("us")) == [seconds(2026, 1, 31)]


@pytest.mark.parametrize(
    ("numbers", "form", "message"),
    [
        ([1_767_000_000_000, 1_767_000_000_500], None, "--time-format milliseconds"),
        ([1_767_000_000_000_000], None, "--time-format microseconds"),
        ([1_767_000_000_000], "seconds", "as seconds which look like milliseconds"),
        ([1_767_000_000], "milliseconds", "--time-format seconds"),
        ([1_767_000_000, 1_767_000_000_000], None, "beyond the year 2286"),
        ([1_767_000_000_000, 1_767_000_000_000_000], "milliseconds", "beyond the year 2286"),
        ([20260131, 20260201], None, "--time-format %Y%m%d, or --time-format seconds"),
        ([202601311830], None, "--time-format %Y%m%d%H%M,"),
        ([20260131183000], None, "--time-format %Y%m%d%H%M%S,"),
        ([1.5, 2.5], "%Y", "double"),
        (["1767000000"], "milliseconds", "string"),
    ],
)
def test_numbers_that_can_not_be_of_their_unit_are_refused(numbers, form, message) -> None:
    with pytest.raises(ValueError, match=r"log.csv: column 'at'") as caught:
        read(numbers, form)
    assert message in str(caught.value)


def test_numbers_that_may_be_seconds_are() -> None:
    for numbers in ([0, 1, 2], [0.5, None], [-5, 1_767_000_000], [1_767_000_000], [99_999_999]):
        assert read(numbers) == numbers
    assert read([20260131, 20260199]) == [20260131, 20260199]
    assert read([20260131, 20260201], "seconds") == [20260131, 20260201]
    assert read([500, 1500], "milliseconds") == [0.5, 1.5]
    assert read([None, None], "%Y-%m-%d") == [None, None]


@pytest.mark.parametrize(
    "form",
    [
        *("", "days", "%d/%m", "%H:%M", "%d/%Y", "%Y %H:%M", "%d/%m/%Y %Z", "%d/%m/%Y %I:%M"),
        *("%Y-%m-%d %Q", "%Y-%m-%d %", "%Y %Y-%m-%d", "%%Y-%%m-%%d", "%d/%m/%Y\0", "%c"),
    ],
)
def test_formats_that_tell_too_little_are_wrong_arguments(capsys, tmp_path: Path, form) -> None:
    fit = ["fit", "log.csv", "--base", "--out", str(tmp_path / "m.skmars")]
    with pytest.raises(SystemExit) as stop:
        main([*fit, "--time-format", form])
    assert stop.value.code == 2
    assert "--time-format" in capsys.readouterr().err


def test_formats_of_whole_dates_are_fine() -> None:
    for form in ("%d/%m/%Y", "%y%m%d", "%Y-%m", "%Y", "%j %Y", "%d %b %Y %I %p", "%G-W%V-%u"):
        assert check_format(form) == form


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    return (code, *capsys.readouterr())


def days(tmp_path: Path, name: str, *times: object, column: str = "timestamp") -> Path:
    n = len(times)
    rows = {"user_id": [1] * n, "item_id": list(range(1, n + 1)), "clicked": [0, *[1] * (n - 1)]}
    return write(tmp_path, name, rows | {column: list(times)})


def histories(path: Path, rows: Path, log: Path | None = None) -> list[list[int]]:
    from skmars.cli._inputs import read_rows

    _, X = read_rows(load(path), rows, log=log, items=None)
    return [X.catalog.ids[X.history.row(i)].tolist() for i in range(len(X))]


@pytest.mark.parametrize("column", ["timestamp", "Date"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_model_keeps_the_format(capsys, tmp_path: Path, column: str, ending: str) -> None:
    # Day first: in order. Month first, or as text, they would stand in another one.
    log = days(tmp_path, f"log.{ending}", "05/01/2026", "01/02/2026", "03/03/2026", column=column)
    path = tmp_path / "m.skmars"
    fit = ["fit", log, "--base", "--out", path, *ALL]
    assert "--time-format" in run(capsys, *fit)[2] or column == "Date"
    assert run(capsys, *fit, "--time-format", "%d/%m/%Y")[0] == 0
    assert load(path).columns.time == column
    rows = days(tmp_path, "rows.csv", "02/02/2026", "01/02/2026", None, column=column)
    expected = [[1, 2], [1], [1, 2, 3]]
    assert histories(path, rows) == histories(path, rows, log) == expected
    iso = days(tmp_path, "iso.csv", "2026-02-02", column=column)
    code, _, err = run(capsys, "predict", path, iso)
    assert code == 1
    for part in ("iso.csv", repr(column), "--time-format %d/%m/%Y", "'2026-02-02' in row 0"):
        assert part in err
    stamped = days(tmp_path, "rows.parquet", datetime(2026, 2, 2), column=column)
    assert histories(path, stamped) == [[1, 2]]
    assert run(capsys, "evaluate", path, log, "--holdout", "none")[0] == 0


def test_numbers_of_dates_keep_their_zeros(capsys, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,clicked,Day\n1,1,1,05012026\n1,2,0,01022026\n1,3,1,03032026\n")
    fit = ["fit", log, "--base", "--out", tmp_path / "m.skmars", *ALL]
    assert run(capsys, *fit, "--time", "Day", "--time-format", "%d%m%Y")[0] == 0
    rows = tmp_path / "rows.csv"
    rows.write_text("user_id,item_id,Day\n1,9,02022026\n")
    assert histories(tmp_path / "m.skmars", rows) == [[1, 2]]


def test_times_of_histories_are_read_alike(capsys, tmp_path: Path) -> None:
    start = 1_767_000_000_000
    log = days(tmp_path, "log.csv", start, start + 5000, start + 9000)
    path = tmp_path / "m.skmars"
    fit = ["fit", log, "--base", "--out", path, *ALL]
    assert run(capsys, *fit)[0] == 1
    assert run(capsys, *fit, "--time-format", "milliseconds")[0] == 0
    assert load(path).histories.events.time[-1] == start / 1000 + 9
    own = {"user_id": [1, 2], "item_id": [1, 2], "history": [[1, 2], []]}
    own |= {"timestamp": [start + 6000] * 2, "history_timestamp": [[start, start + 5000], []]}
    from skmars.cli._inputs import read_rows

    rows = write(tmp_path, "own.parquet", own)
    _, X = read_rows(load(path), rows, log=None, items=None)
    assert X.time.tolist() == [start / 1000 + 6] * 2
    assert X.history.time[X.history.positions()].tolist() == [start / 1000, start / 1000 + 5]
    own["history_timestamp"] = [[start // 1000, start // 1000 + 5], []]
    code, _, err = run(capsys, "predict", path, write(tmp_path, "own.parquet", own))
    assert code == 1
    assert "'history_timestamp'" in err


def test_clocks_without_a_zone_are_not_compared_with_others(capsys, tmp_path: Path) -> None:
    path = tmp_path / "m.skmars"
    kinds = {
        "local": ("2026-01-01 10:00:00", "2026-01-02 10:00:00"),
        "zoned": ("2026-01-01 10:00:00Z", "2026-01-02T10:00:00+01:00"),
        "numbers": (1_767_000_000, 1_767_000_001),
    }
    for kind, times in kinds.items():
        log = days(tmp_path, "log.csv", *times)
        assert run(capsys, "fit", log, "--base", "--out", path, *FAST_BASE)[0] == 0
        for other, later in kinds.items():
            code, _, err = run(capsys, "predict", path, days(tmp_path, "rows.csv", *later))
            assert code == ("local" in (kind, other) and kind != other)
            if code:
                for part in ("rows.csv", "'timestamp'", "without a zone"):
                    assert part in err
    assert np.isfinite(load(path).histories.now)


def test_times_are_not_passed_over(capsys, tmp_path: Path) -> None:
    fit = ["--base", "--out", tmp_path / "m.skmars", *ALL]
    for written in ("13/02/2026", "13.2.26 10:00", "2026-02-13, noon"):
        log = days(tmp_path, "log.csv", *[written] * 3, column="when")
        code, _, err = run(capsys, "fit", log, *fit)
        assert code == 1
        for part in ("log.csv", "'when'", "--time", "--no-time"):
            assert part in err
        assert run(capsys, "fit", log, *fit, "--no-time")[0] == 0
    log = days(tmp_path, "log.csv", 1, 2, 3, column="when")
    code, _, err = run(capsys, "fit", log, *fit)
    assert code == 0
    assert "no column of times" in err
    assert "no column of times" not in run(capsys, "fit", log, *fit, "--no-time")[2]
    prices = days(tmp_path, "log.csv", "1.5", "2.50 EUR", "1.2.3", column="note")
    assert run(capsys, "fit", prices, *fit)[0] == 0
