"""What the documentation shows of the results: tables as Markdown, and pictures.

    python -m benchmarks.paper report --output results --to docs/evidence/made

The pages of `docs/evidence` include these files. What has not been measured is said to be so. The
same results give the same files. Most of the time goes into draws of users; `--cache FOLDER` keeps
them for the next report.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from joblib import Memory

from benchmarks.paper import results, tables
from benchmarks.paper.checks import CHECKS
from benchmarks.paper.data import AMAZON, SCARCE
from benchmarks.paper.experiment import RECENT
from benchmarks.paper.figure import Group, draw_forest, draw_scarcity
from benchmarks.paper.markdown import folded, table
from benchmarks.paper.methods import METHODS, TABLES, methods_of, split_of
from benchmarks.paper.results import difference, read_cells, read_points, short_histories

REAL = {
    "ml-1m/paper": "MovieLens-1M",
    "ml-1m/strong": "MovieLens-1M with dislikes",
    "beauty/paper": "Amazon Beauty, 5-core",
    "beauty-7-core/paper": "Amazon Beauty, 7-core",
    "toys/paper": "Amazon Toys",
}
GENERATED = {"synthetic/paper": "planted look-alikes", "shop/paper": "small shop"}
ALL_ROWS = "ml-1m-all-rows/paper"  # on the page of the first
OPTIONAL = ["ml-1m/strong", "shop/paper"]  # absent where not measured
OTHER = "generated data, other scale"
SERIES = ["factors", "random-donors", "mars"]
SCARCITY = "AUC against items kept, of DIN, DIN + item factors and the default pipeline."
DEFAULTS = {"ml-1m": "pretrained"}  # encoders


def command(protocol: dict[str, Any], seeds: list[int], wanted: list[str]) -> str:
    """Return the command that repeats cells."""
    kind, name = protocol["kind"], protocol["data"]
    stem = name.split("-")[0] + ".txt" if kind in AMAZON else kind
    made = {"synthetic": "--synthetic", "shop": "--data-kind shop"}
    data = made.get(kind, f"--data path/to/{stem} --data-kind {kind}")
    asked = [f"--setting {protocol['setting']} --table {' '.join(wanted)}"]
    if name.endswith("-users"):
        asked.append(f"--users {name.split('-')[-2]}")
    if seeds != [0, 1, 2, 3, 4]:
        asked.append(f"--seeds {' '.join(map(str, seeds))}")
    if protocol["encoders"] != DEFAULTS.get(kind, "offline"):
        asked.append(f"--encoders {protocol['encoders']}")
    if protocol["recent"] != RECENT:
        asked.append(f"--recent {protocol['recent']}" if protocol["recent"] else "--all-rows")
    if protocol["candidates"] != 1:
        asked.append(f"--candidates {protocol['candidates']}")
    lines = [f"python -m benchmarks.paper {data}", " ".join(asked)]
    if protocol["set"]:
        values = [shlex.quote(f"{k}={v}") for k, v in protocol["set"].items()]
        lines.append("--set " + " ".join(values[:3]))
        lines += [" ".join(values[i : i + 3]) for i in range(3, len(values), 3)]
    return " \\\n  ".join(lines)


def measured_by(folder: Path, names: dict[str, list[str]]) -> str:
    """Write the commands behind a fragment, and the rows and versions of its cells."""
    wanted: dict[str, list[str]] = {}  # tables by what their cells share
    every: list[dict[str, Any]] = []
    for name in [*names, *CHECKS]:
        cells = [json.loads(p.read_text()) for p in sorted(_cells_of(folder, name, names))]
        if cells:
            seeds = sorted({cell["seed"] for cell in cells})
            wanted.setdefault(json.dumps([cells[0]["protocol"], seeds]), []).append(name)
            every += cells
    code = "\n".join(command(*json.loads(shared), own) for shared, own in wanted.items())
    rows = []
    for split in ("full", SCARCE):
        sizes = [(c["n_train"], c["n_test"]) for c in every if c.get("split") == split]
        if sizes:
            rows.append([split, *(_range(of) for of in zip(*sizes))])
    used = ", ".join(f"{k} {v}" for k, v in every[0]["versions"].items())
    head = ["split", "training rows", "test rows"]
    about = folded("Rows and versions", table(head, rows), f"Measured with {used}.\n")
    return f"```bash\n{code}\n```\n\n{about}"


def _cells_of(folder: Path, name: str, names: dict[str, list[str]]) -> Iterator[Path]:
    """Yield the cells that a table has made; those that it shares with table 2 are table 2's."""
    if name in CHECKS:
        yield from folder.glob(f"checks/{name}/[0-9]*.json")
        return
    split = "full" if split_of(name) == "full" else "keep-*"
    shared = [] if name in ("2", "scarcity") else TABLES["2"]
    for method in names[name]:
        if method not in shared:
            yield from folder.glob(f"{split}/{method}/[0-9]*.json")


def _range(values: Iterable[int]) -> str:
    """Write a number, or the least and the most; generated data differ from seed to seed."""
    least, *_, most = sorted([*values] * 2)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def fragment(output: Path, data: str, to: Path) -> str:
    """Write all that has been measured on one data set in one setting."""
    folder = output / data
    setting = data.split("/")[1]
    kinds = [json.loads(p.read_text())["protocol"]["kind"] for p in _first(folder)]
    if not kinds:
        return "Not measured with this version.\n"
    names = {name: methods_of(name, setting, content=kinds[0] not in AMAZON) for name in TABLES}
    cells, points = read_cells(folder / "full"), read_points(folder)
    picture = f"scarcity-{data.replace('/', '-')}.svg"
    if points:
        draw_scarcity(points, to / picture, SCARCITY)
    curve = tables.scarcity_part(points, picture)
    parts = [
        tables.scores(names["2"], cells) if cells else "",
        measured_by(folder, names),
        tables.table_2_folded(data, names["2"], cells) if cells else "",
        *(
            tables.further_table(name, names[name], cells)
            for name in TABLES
            if name not in ("2", "scarcity")
        ),
        tables.checks(folder),
        curve,
    ]
    return "\n".join(part for part in parts if part)


def _first(folder: Path) -> list[Path]:
    """Return the first cell of a folder, if there is one."""
    return sorted(p for p in folder.glob("*/*/[0-9]*.json") if p.parts[-3] != "checks")[:1]


def forests(output: Path, to: Path) -> None:
    """Draw the differences to DIN, of all test rows and of those with short histories."""
    there = {data: read_cells(output / data / "full") for data in (*REAL, *GENERATED)}
    there = {data: cells for data, cells in there.items() if cells or data not in OPTIONAL}
    real, made = ({d: there[d] for d in of if d in there} for of in (REAL, GENERATED))
    every = [
        Group("real data", {wrapped(data): _to_din(cells) for data, cells in real.items()}),
        Group(OTHER, {wrapped(data): _to_din(cells) for data, cells in made.items()}, "generated"),
    ]
    cut = {d: _to_din(short_histories(read_points(output / d))) for d in REAL}
    own, generated = ({d: _to_din(c, "few") for d, c in of.items()} for of in (real, made))
    few = [
        Group(title, {wrapped(data): found for data, found in rows.items() if found}, scale)
        for title, rows, scale in (
            ("histories cut to 0 to 5 items", cut, ""),
            ("own histories of at most 5 items", own, ""),
            ("generated data, at most 5 items", generated, "generated"),
        )
    ]
    methods = ", ".join(METHODS[n].label for n in SERIES)
    about = f"Differences of AUC to DIN with 95 % intervals, by data set, for {methods}: "
    draw_forest(every, SERIES, to / "forest.svg", about + "all test rows.")
    draw_forest(few, SERIES, to / "forest-short.svg", about + "histories of at most 5 items.")


def wrapped(data: str) -> str:
    """Name data in two lines."""
    return {**REAL, **GENERATED}[data].replace(", ", "\n").replace(" with ", "\nwith ")


def _to_din(cells: tables.Found, part: str = "all") -> dict[str, Any]:
    """Return the differences to DIN that can be had."""
    found = {n: difference(cells.get(n, {}), cells.get("base", {}), part) for n in SERIES}
    return {n: d for n, d in found.items() if d}


def write(output: Path, to: Path) -> None:
    """Write everything that is in a folder of results."""
    read_cells.cache_clear()
    to.mkdir(parents=True, exist_ok=True)
    for old in (*to.glob("*.md"), *to.glob("*.svg")):
        old.unlink()
    there = {str(p.relative_to(output)) for p in output.glob("*/*") if _first(p)}
    known = {*REAL, *GENERATED, ALL_ROWS}
    for data in sorted(there | known):
        (to / f"{data.replace('/', '-')}.md").write_text(fragment(output, data, to))
    titles = {d: t for d, t in {**REAL, **GENERATED}.items() if d in there or d not in OPTIONAL}
    found = {t: read_cells(output / d / "full") for d, t in titles.items()}
    (to / "summary.md").write_text(tables.summary(found))
    forests(output, to)
    draw_scarcity(read_points(output / "ml-1m/paper"), to / "scarcity.svg", SCARCITY)


def main(argv: list[str]) -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder of the cells")
    parser.add_argument("--to", type=Path, default=Path("docs/evidence/made"))
    parser.add_argument("--cache", type=Path, help="folder that keeps draws of users")
    arguments = parser.parse_args(argv)
    if not any(_first(p) for p in arguments.output.glob("*/*")):
        parser.error(f"--output {arguments.output} has no results")
    results.MEMORY = Memory(arguments.cache, verbose=0)
    write(arguments.output, arguments.to)
