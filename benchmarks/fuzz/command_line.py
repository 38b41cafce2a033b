"""Runs the command on tables and arguments that nobody would write.

    python -m benchmarks.fuzz.command_line --n 10000 --seed 0

Nothing is learnt: a classifier stands in for the pipeline whose probability is a digest of the
row's user, item and history. So every line of the predictions can be checked: against what Python
makes of the same files, in which an id is the text that stands there, and a history the items of
earlier lines of the same text.

Wrong are: predictions that do not belong to their rows, a table that has nothing odd and is
refused, an error that is none of ours, names nothing or takes more than a line, and a file that is
changed though it is an input or though the command failed.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow
from hypothesis import strategies as st
from pyarrow import parquet
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from benchmarks.fuzz.harness import fuzz
from skmars import Impressions
from skmars.cli import _commands as commands
from skmars.cli import main
from skmars.cli._arguments import MODELS
from skmars.cli._checks import INPUTS
from skmars.cli._command_line import make_parser
from skmars.persistence import register
from skmars.rates import PopularityClassifier

PLAIN = ["1", "2", "3", "40", "-5", "0"]
ODD = [
    *("007", "07", "7", "+7", "7.0", "1e5", " 7", "7 ", "-0", "0x10", "1_000", "٣"),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "9" * 25,
        "-" + "9" * 25,
    ),
    *(
        "ann",
        "Ann",
        "true",
        "2026-01-01",
        "NA",
        "nan",
        "None",
        "é",
        "e\u0301",
        "🎬",
        "a,b",
        "a;b",
        "a\tb",
    ),
    *('say "a"', "a\nb", "'", "\\", "#", "nul\0"),
]
MISSING = ["", "NA", "nan", "None"]
NAMED = ["./log.csv", "rows.csv", "m.skmars"]
CONTEXT = [["1", "2", "-30"], ["app", "web", "07x"]]
# How times are written: the format of `strftime`, and what --time-format says.
TIMES = {
    "dates": ("%Y-%m-%d %H:%M:%S", None),
    "pattern": ("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M"),
    "compact": ("%d%m%Y%H", "%d%m%Y%H"),
    "milliseconds": ("%s000", "milliseconds"),
}
TITLES = ["007", "1917", "Up", "NA", "", "true", "2001-01-01", 'The "5"', "a\nb"]


@register
class Echo(ClassifierMixin, BaseEstimator):
    """A classifier that predicts a digest of the row."""

    def fit(self, X: Impressions, y: Any) -> Echo:
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X: Impressions) -> Any:
        feedback = X.history.feedback
        ids = X.catalog.ids
        rows = range(len(X))
        items = [[str(i) for i in ids[X.history.row(row)]] for row in rows]
        if feedback is not None:
            ends = X.history.start + X.history.length
            items = [
                [f"{i}:{f}" for i, f in zip(row, feedback[a:b])]
                for row, a, b in zip(items, X.history.start, ends)
            ]
        for column in X.context.values():
            numbers = column.dtype.kind == "f" or column.dtype.kind in "iu"
            known = [float(v) if numbers else v for v in column]
            items = [[*row, repr(value)] for row, value in zip(items, known)]
        p = [digest(str(u), str(i), h) for u, i, h in zip(X.user_ids, X.item_ids, items)]
        return np.column_stack([1 - np.array(p), p])


def digest(user: str, item: str, history: list[str]) -> float:
    """Return a number from 0 to 1 that hardly any other row has."""
    return int(sha256(repr((user, item, history)).encode()).hexdigest()[:10], 16) / 16**10


@dataclass(repr=False)
class Table:
    """A table as texts, and the bytes of the file that it is in."""

    columns: dict[str, list[str]]
    name: str
    data: bytes = b""
    odd: bool = False
    as_strings: bool = False
    types: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __repr__(self) -> str:
        written = self.types if self.types and not self.odd else self.data
        return f"Table({self.columns}, {self.name!r}: {written})"


@dataclass
class Case:
    """Files, and the commands that are run on them one after the other."""

    log: Table
    rows: Table
    items: Table | None
    options: list[str]
    times: str
    history: str
    other_log: bool
    out: str | None
    context: bool
    piped: bool

    def numbers(self) -> list[str]:
        """Return the context columns that hold numbers in the log."""
        texts = self.log.columns.get("shown", [])
        return ["shown"] if all(re.fullmatch(r"-?\d+", text) for text in texts) else []


# --- what is drawn --------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn, columns: dict[str, list[str]], ids: list[str], name: str) -> Table:
    """Draw how a table is written."""
    table = Table(dict(columns), name)
    order = draw(st.permutations(list(columns)))
    if draw(st.integers(0, 3)) == 0:
        table.name += ".parquet"
        arrays = {}
        for column in order:
            texts = columns[column]
            whole = [text for text in texts if text or column in ids]
            fits = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", text) for text in whole)
            kind = draw(st.sampled_from(["integers", "strings"])) if fits else "strings"
            if column not in ids:
                kind = "integers" if fits else "strings"
            types = ["int64", "int32"] if kind == "integers" else ["string", "large_string"]
            values: list[Any] = [text or None for text in texts]
            if kind == "integers":
                values = [None if text is None else int(text) for text in values]
                if any(v is not None and abs(v) >= 2**31 for v in values):
                    types = ["int64"]
            arrays[column] = pyarrow.array(values, draw(st.sampled_from(types)))
            if kind == "strings" and column in ids and draw(st.booleans()):
                arrays[column] = arrays[column].dictionary_encode()
            table.types[column] = kind
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.table(arrays), sink)
        table.data = sink.getvalue().to_pybytes()
    else:
        table.name += draw(st.sampled_from([".csv", ".csv", ".CSV"]))
        text = io.StringIO(newline="")
        writer = csv.writer(
            text,
            delimiter=draw(st.sampled_from(",,;\t")),
            quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
            lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
        )
        writer.writerow(order)
        writer.writerows(zip(*(columns[column] for column in order)))
        bom = b"\xef\xbb\xbf" if draw(st.booleans()) else b""
        table.data = bom + text.getvalue().encode()
    if draw(st.integers(0, 30)) == 7:
        table.odd = True
        table.data = draw(damages(table.data))
    return table


@st.composite
def damages(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw what may have happened to a file."""
    some = draw(
        st.binary(max_size=5) | st.sampled_from([b'"', b"\n", b",", b"\0", b"\xff", b"007"])
    )
    a = draw(st.integers(0, len(data)))
    b = draw(st.integers(a, len(data)))
    return draw(
        st.sampled_from(
            [
                *(data[:a], data[:a] + some + data[a:], data[:a] + some + data[b:], b"", b"\n\n"),
                data[: data.find(b"\n") + 1],
                data.replace(b"user_id", b"item_id").replace(b"who", b"item_id"),
                b"PAR1" + data,
                data.decode("utf-8", "replace").encode("utf-16"),
            ]
        )
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a log, rows, perhaps items, and how the command is called."""
    user, item, time = draw(
        st.sampled_from([("user_id", "item_id", "timestamp"), ("who", "é", "at")])
    )
    pools = [PLAIN, PLAIN, ODD, ODD, PLAIN + ODD, PLAIN + ODD, PLAIN + MISSING]
    few = st.sampled_from(pools).flatmap(lambda pool: st.lists(st.sampled_from(pool), min_size=1))
    users = draw(few)
    items = draw(few)
    times = draw(st.sampled_from(["numbers", "none", *TIMES]))
    shown = draw(st.sampled_from([None, None, *CONTEXT]))
    as_strings = draw(st.integers(0, 3)) == 0
    some_missing = draw(st.booleans())

    def clock() -> str:
        if some_missing and draw(st.integers(0, 4)) == 0:
            return ""
        t = draw(st.integers(0, 9))
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=9 * t)
        if times == "milliseconds":
            return f"{at.timestamp():.0f}000"
        return str(t) if times == "numbers" else at.strftime(TIMES[times][0])

    def drawn(n: int, *, label: bool, strangers: bool) -> dict[str, list[str]]:
        extra = ODD[:3] + PLAIN if strangers and draw(st.booleans()) else []
        columns = {
            user: [draw(st.sampled_from(users + extra)) for _ in range(n)],
            item: [draw(st.sampled_from(items + extra)) for _ in range(n)],
        }
        if times != "none":
            columns[time] = [clock() for _ in range(n)]
        if label:
            columns["clicked"] = [draw(st.sampled_from("01")) for _ in range(n)]
        if shown is not None:
            columns["shown"] = [draw(st.sampled_from(shown)) for _ in range(n)]
        return columns

    log = draw(
        tables(drawn(draw(st.integers(1, 12)), label=True, strangers=False), [user, item], "log")
    )
    rows = draw(
        tables(drawn(draw(st.integers(1, 6)), label=False, strangers=True), [user, item], "rows")
    )
    catalog = None
    if draw(st.booleans()):
        ids = draw(st.lists(st.sampled_from(items + PLAIN + ODD), min_size=1, unique=True))
        titles = [draw(st.sampled_from(TITLES)) for _ in ids]
        catalog = draw(tables({item: ids, "title": titles}, [item], "items"))
    history = draw(st.sampled_from(["all", "positive"]))
    options = ["--user", user, "--item", item, "--history", history]
    no_time = draw(st.booleans()) and times != "none"
    options += ["--no-time"] if no_time else ["--time", time] if times != "none" else []
    if not no_time and times in TIMES and TIMES[times][1] is not None:
        options += ["--time-format", TIMES[times][1]]
    options += [] if shown is None else ["--context", "shown"]
    options += ["--ids", "strings"] if as_strings else []
    for table in (log, rows, catalog):
        if table is not None:
            table.as_strings = as_strings
    return Case(
        log,
        rows,
        catalog,
        options,
        "none" if no_time else times,
        history,
        draw(st.booleans()),
        draw(
            st.sampled_from([None, "out.csv", "out.parquet", "./log.csv", "rows.csv", "m.skmars"])
        ),
        shown is not None,
        draw(st.booleans()) and rows.name.lower().endswith(".csv"),
    )


# --- what must come of it -------------------------------------------------------------------


def run(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run the command: exit code, stdout, stderr; fail where an error is none of ours."""
    out, err = io.StringIO(), io.StringIO()
    piped = patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    with piped, redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    told = err.getvalue()
    lines = told.splitlines()
    assert code in (0, 1, 2), f"exit code {code}: {told}"
    assert "Traceback" not in told, told
    if code:
        assert out.getvalue() == "", "results though it failed"
        assert lines[-1].startswith("skmars"), told
        assert "error: " in lines[-1], told
        assert "--traceback" not in lines[-1], f"an error from inside: {told}"
        named = re.search(r"--\w|column|STEP__PARAM|COMMAND|MODEL|LOG|ROWS|argument", lines[-1])
        words = (" ".join(str(a).split()) for a in arguments)
        named = named or any(word in lines[-1] for word in words if word not in ("", "."))
        assert named, f"names nothing: {told}"
        assert code == 2 or len([x for x in lines if "warning:" not in x]) == 1, told
    return code, out.getvalue(), lines[-1] if code else ""


@contextmanager
def folder(files: dict[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Enter a folder with these files."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as path:
        os.chdir(path)
        try:
            for name, data in files.items():
                Path(name).parent.mkdir(exist_ok=True)
                Path(name).write_bytes(data)
            with patch.object(os, "fsync"):  # nobody pulls the plug
                yield files
        finally:
            os.chdir(before)


def contents() -> dict[str, bytes]:
    """Return the files of the folder, and of folders in it."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def pipeline(**options: Any) -> Pipeline:
    """Stand in for the function that makes the pipeline, after it had its say."""
    make_pipeline(**options)
    return Pipeline([("ctr", Echo())])


def compare(X: Impressions, y: Any, *, models: dict[str, Any], **options: Any) -> Any:
    """Stand in for the function that compares models, with the cheapest of them."""
    cheapest = next(name for name in MODELS if name not in models)
    others = {name: None for name in MODELS if name != cheapest}
    found = real_compare(X, y, models=others | {cheapest: PopularityClassifier()}, **options)
    return found


make_pipeline = commands.make_pipeline
real_compare = commands.pipeline_compare


def seconds(text: str) -> float:
    """Return a time of a table."""
    written = {"dates": r"\d+-.*", "pattern": r"\d+\..*", "compact": r"\d{10}"}
    for times, pattern in written.items():
        if re.fullmatch(pattern, text):
            return datetime.strptime(text, TIMES[times][0]).replace(tzinfo=UTC).timestamp()
    return float(text)


def expected(case: Case) -> list[list[str | float]]:
    """Return the lines that the predictions must have, computed from the texts."""
    names = list(case.rows.columns)
    user, item, time = names[0], names[1], names[2] if case.times != "none" else None
    log = case.log.columns
    events = []
    for row in range(len(case.log)):
        at = float(row) if time is None else seconds(log[time][row]) if log[time][row] else None
        clicked = log["clicked"][row]
        if at is not None and (case.history == "all" or clicked == "1"):
            name = log[item][row] + (f":{clicked}" if case.history == "all" else "")
            events.append((at, row, log[user][row], name))
    events.sort()
    lines = []
    for row in range(len(case.rows)):
        who, what = (case.rows.columns[name][row] for name in (user, item))
        when = case.rows.columns[time][row] if time is not None else ""
        before = [e for e in events if e[2] == who and (not when or e[0] < seconds(when))]
        history = [e[3] for e in before]
        if case.context:
            text = case.rows.columns["shown"][row]
            history.append(repr(float(text) if "shown" in case.numbers() else text))
        lines.append([who, what, digest(who, what, history)])
    return lines


def kind(table: Table, column: str) -> str:
    """Say what the ids of a column are by the rule that the command promises; "" if refused."""
    texts = table.columns[column]
    if table.as_strings:
        return "strings" if "" not in texts else ""
    if column in table.types:
        return table.types[column] if "" not in texts else ""
    whole = [t for t in texts if t not in MISSING]
    if all(re.fullmatch(r"0|-?[1-9][0-9]*", t) and -(2**63) <= int(t) < 2**63 for t in whole):
        return "integers" if len(whole) == len(texts) else ""
    return "strings" if "" not in texts else ""


def fits(kinds: list[str], table: Table, column: str) -> bool:
    """Tell whether a table must be accepted where the log (and items) are of these kinds."""
    own = kind(table, column)
    if column not in table.types and "strings" in kinds:
        return own == "strings" or "" not in table.columns[column]
    return own != "" and {own} == set(kinds)


def check(case: Case) -> str:
    """Fit and predict, and say what became of it."""
    log, rows, items = case.log, case.rows, case.items
    user, item = list(rows.columns)[:2]
    inputs = [table for table in (log, rows, items) if table is not None]
    odd = any(table.odd for table in inputs)
    with folder({table.name: table.data for table in inputs}) as files:
        fit = ["fit", log.name, *case.options, "--base", "--out", "m.skmars"]
        fit += [] if items is None else ["--items", items.name]
        with patch.object(commands, "make_pipeline", pipeline):
            code, out, error = run(*fit, "--quiet")
        assert out == ""
        if code:
            assert contents() == files, "a failed fit changed a file"
            assert odd or "can't be read" not in error, error
            kinds = [kind(log, item), *([] if items is None else [kind(items, item)])]
            good = kind(log, user) and all(kinds) and len({*kinds}) == 1
            times = case.times == "none" or any(log.columns[list(rows.columns)[2]])
            assert odd or not (good and times), f"nothing is wrong, but: {error}"
            return f"fit refused {brief(error)}"
        before = contents()
        predict = ["predict", "m.skmars", "-" if case.piped else rows.name]
        predict += ["--log", log.name] if case.other_log else []
        predict += [] if items is None or case.other_log else ["--items", items.name]
        read = [Path(name).name for name in predict]
        out_option = [] if case.out is None else ["--out", case.out]
        code, out, error = run(*predict, *out_option, stdin=rows.data if case.piped else b"")
        if code:
            assert contents() == before, "a failed predict changed a file"
            if case.out is not None and Path(case.out).name in read:
                assert code == 2, error
                return "out is an input"
            if case.out == "m.skmars":
                return "out has another ending"
            users = fits([kind(log, user)], rows, user)
            assert odd or "can't be read" not in error, error
            kinds = [kind(log, item), *([] if items is None else [kind(items, item)])]
            kinds = ["strings"] if "strings" in kinds else kinds
            assert odd or not (users and fits(kinds, rows, item)), f"nothing is wrong, but: {error}"
            return f"predict refused {brief(error)}"
        for name, data in before.items():
            written = case.out is not None and name == Path(case.out).name
            assert written or Path(name).read_bytes() == data, f"{name} is another file now"
        if odd:
            return "an odd file went through"
        if case.out == "out.parquet":
            found = parquet.read_table("out.parquet").to_pydict()
        else:
            text = out if case.out is None else Path(case.out).read_text()
            header, *lines = csv.reader(io.StringIO(text))
            found = dict(zip(header, zip(*lines)))
        found = [list(line) for line in zip(found[user], found[item], found["probability"])]
        told = [[str(u), str(i), float(p)] for u, i, p in found]
        assert told == expected(case), f"wrong rows: {told}, expected {expected(case)}"
        return "predicted"


def brief(error: str) -> str:
    """Return the kind of an error, for counting."""
    words = re.sub(r"'[^']*'|\S+\.\w+:?|\d+", "", error.partition("error: ")[2]).split()
    return " ".join(words[:5])


# --- arguments --------------------------------------------------------------------------------

FILES = {
    "log.csv": b"user_id,item_id,timestamp,clicked,clicks\n1,1,1,1,1\n1,2,2,0,2\n2,1,3,1,3\n"
    b"1,3,4,1,4\n2,3,5,0,5\n3,1,6,1,6\n3,2,7,0,7\n4,1,8,1,8\n4,2,9,0,9\n",
    "items.csv": b"item_id,title,kind\n1,Up,film|new\n2,Heat,film\n",
    "users.csv": b"user_id,age\n1,30\n5,\n",
    "rows.csv": b"user_id,item_id\n1,3\n2,2\n3,1\n",
    "empty.csv": b"",
    "head.csv": b"user_id,item_id,clicked\n",
    "one.csv": b"user_id\n1\n",
    "text.txt": b"text",
    "broken.parquet": b"PAR1",
    "broken.skmars": b"skmars-model 3",
}
TEMPLATES = [
    "fit log.csv --base --out new.skmars --quiet",
    "fit log.csv --items items.csv --base --out m.skmars --history all",
    "fit log.csv --base --out new.skmars --set ctr__max_iter=2 --seed 7",
    "predict m.skmars rows.csv --out new.csv",
    "predict m.skmars rows.csv --log log.csv",
    "explain m.skmars rows.csv --out new.parquet",
    "evaluate m.skmars log.csv --holdout none --out new.csv",
    "predict m.skmars rows.csv --items items.csv",
    "fit log.csv --items items.csv --base --out new.skmars --attributes kind --users users.csv",
    "fit log.csv --base --out new.skmars --context clicks --ids strings --time-format seconds",
    "predict m.skmars - --log log.csv",
    "evaluate m.skmars log.csv --log log.csv",
    "recommend m.skmars rows.csv -n 3 --out new.csv",
    "recommend m.skmars --user-id 1 --candidates items.csv --include-seen",
    "recommend m.skmars --log log.csv",
    "compare log.csv --items items.csv --out new.csv --without MARS --quiet",
]
NAMES = [
    *FILES,
    *("m.skmars", "new.csv", "new.parquet", "new.skmars", "folder", "folder/new.csv", "pipe.csv"),
    *("m.skmars/new.csv", "m.skmars/new", "m.skmars/manifest.json"),
    *("link.csv", "hard.csv", "loop.csv", "dangling.csv", "no/new.csv", "./rows.csv", "ROWS.csv"),
    *("folder/../log.csv", "/dev/null", "/dev/zero", "/dev/stdin", "", ".", "-", "log.csv/new.csv"),
    *("a\0.csv", "x" * 300 + ".csv", "\udcff.csv", "\ud800.csv", "é.csv", "new\n.csv"),
]
WORDS = [
    "fit",
    "explain",
    "--base",
    "--no-time",
    "--",
    "--hist",
    "--items",
    "--log",
    "--out",
    "=",
    "x",
    "--include-seen",
    "--words",
    "recommend",
    "compare",
]
COLUMNS = ["user_id", "item_id", "timestamp", "clicked", "title", "probability", "é", ""]
SEVERAL = [*COLUMNS, "kind,age", ","]
VALUES = {
    **dict.fromkeys(["--out", "--items", "--log", "--users", "--candidates"], NAMES),
    **dict.fromkeys(["--user", "--item", "--time", "--order", "--label"], COLUMNS),
    **dict.fromkeys(["--title", "--text", "--image"], COLUMNS),
    **dict.fromkeys(["--context", "--attributes", "--user-attributes"], SEVERAL),
    "--time-format": [
        *("%d/%m/%Y", "%Y-%m-%d", "%s", "%", "%Z %Y", "", "%Y%m%d", "%H", "%Y" * 200, "%d\0%m%Y"),
        *("seconds", "milliseconds", "nanoseconds", "days", "%-d%Y", "\ud800%Y", "é %Y"),
    ],
    "--negatives": ["1", "2", "0", "-1", "99", "x"],
    "--split-at": ["4", "0.5", "0", "-1", "nan", "2026-01-01", "1970-01-01T00:00:05Z", "soon", ""],
    "--ids": ["strings", "auto", "x"],
    "--variant": ["default", "paper", "x"],
    "--list-separator": ["|", ",", "", "é", "\n"],
    "-n": ["1", "0", "-1", "99999999999", "x", "1e3"],
    "--user-id": ["1", "99", "01", "", "ann", "9" * 30, "\udcff"],
    "--with": ["hour=1", "hour", "=", "", "user_id=1"],
    "--without": [*MODELS, "mars", ""],
    "--click-from": ["1", "0.5", "4", "-1", "nan", "inf", "1e400", "x", ""],
    "--seed": ["0", "-1", "4294967295", "4294967296", "9" * 5000, "1.5", "x"],
    "--history": ["all", "positive", "x"],
    "--duplicates": ["keep", "drop", "warn", "x"],
    "--holdout": ["last", "later", "none", "x"],
    "--set": [
        *("ctr__max_iter=1", "ctr__max_iter=0", "ctr__hidden_units=(8,", "ctr__tol=1e400"),
        *("ctr__x=1", "ctr=1", "=", "x", "encode__encoders={'text': 5}", "ctr__=1", "ctr__tol=-1"),
        *("ctr__random_state=-1", "ctr__max_iter=" + "(" * 3000, "ctr__class_weight={1: 'x'}"),
        *("ctr__a__b=1", "ctr__max_iter=True", "ctr__max_iter=1" + "0" * 30, "ctr__tol='\\d'"),
    ],
}


@st.composite
def arguments(draw: st.DrawFn) -> list[str]:
    """Draw a command, which is mostly right."""
    words = draw(st.sampled_from(TEMPLATES)).split()
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["file", "file", "option", "option", "word", "drop"]))
        if kind == "file":
            at = [i for i, word in enumerate(words) if "." in word] or [0]
            words[draw(st.sampled_from(at))] = draw(st.sampled_from(NAMES))
        elif kind == "option":
            option = draw(st.sampled_from(list(VALUES)))
            words += [option, draw(st.sampled_from(VALUES[option]))]
        elif kind == "word":
            words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(WORDS)))
        elif words:
            words.pop(draw(st.integers(0, len(words) - 1)))
    return words


@cache
def a_model() -> dict[str, bytes]:
    """Return the files of a model."""
    with folder(FILES), patch.object(commands, "make_pipeline", pipeline):
        code, _, error = run("fit", "log.csv", "--base", "--out", "m.skmars", "--quiet")
        assert code == 0, error
        return {name: data for name, data in contents().items() if name.startswith("m.skmars/")}


def check_arguments(words: list[str]) -> str:
    """Run a command among files, pipes and links, and say what became of it."""
    with folder({**FILES, **a_model()}):
        Path("folder").mkdir()
        os.mkfifo("pipe.csv")
        for link, target in {"link": "rows", "loop": "loop", "dangling": "folder/there"}.items():
            Path(f"{link}.csv").symlink_to(f"{target}.csv")
        os.link("log.csv", "hard.csv")
        before = contents()
        with (
            patch.object(commands, "make_pipeline", pipeline),
            patch.object(commands, "pipeline_compare", compare),
        ):
            code, _, error = run(*words, stdin=FILES["rows.csv"])
        after = contents()
        remains = list(Path().rglob(".skmars-*"))
        assert not remains, f"left behind: {remains}"
        if code:
            assert after == before, "a command that failed changed a file"
            return f"exit code {code}: {brief(error)}" if code == 1 else "exit code 2"
        used = make_parser().parse_args(words)
        out = used.out and os.path.realpath(used.out)
        changed = {p for p in {*before, *after} if before.get(p) != after.get(p)}
        if used.command == "fit":  # what changed are files of one folder
            changed = {os.path.dirname(p) for p in changed}
        assert {os.path.realpath(p) for p in changed} <= {out}, f"changed {changed}"
        inputs = [getattr(used, name, None) for name in INPUTS]
        read = {os.path.realpath(p) for p in inputs if isinstance(p, Path)}
        assert out not in read, "an input was overwritten"
        return f"{used.command} done"


def check_any(drawn: Case | list[str]) -> str:
    """Check tables, or arguments."""
    return check(drawn) if isinstance(drawn, Case) else check_arguments(drawn)


if __name__ == "__main__":
    fuzz(check_any, cases() | arguments(), __doc__)
