"""A page of the results, as Markdown or reStructuredText, from the files of the cells.

python -m benchmarks.paper report --output results --format md --to results.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.data import AMAZON, KEPT, split_name
from benchmarks.paper.methods import (
    BASELINES,
    CONTROLS,
    METHODS,
    ON_IDS,
    TABLES,
    TITLES,
    methods_of,
)
from benchmarks.paper.results import (
    N_BINS,
    Cells,
    corrected,
    difference,
    over_seeds,
    read_cells,
    single_seed_tests,
)
from benchmarks.paper.statistics import Difference, interval
from skmars.metrics import relative_improvement

# What arXiv 2509.01184 reports: AUC and RelaImpr of all users. What is not known is not here.
PAPER = {"ml-1m": {"2": {"base": (0.7772, None), "retrieval": (0.7813, 1.48)}}}
NOTES = """\
AUC of the test rows: mean over the seeds ± half of its 95 % interval (t). RelaImpr is that of the \
mean AUCs (Eq. 20), in percent. Differences have 95 % intervals and two-sided p values from a \
bootstrap that draws users and seeds; p values are Holm-corrected within each \
column (of the scarcity curve: each row). "DeLong" \
counts the seeds in which DeLong's test alone gives p < 0.05, "GAUC" those in which the user \
bootstrap of GAUC does (only where users have several test rows). Low-active users are the 30 % \
with the shortest histories in the training rows."""

Rows = list[list[str]]


def table(head: list[str], rows: Rows, form: str) -> str:
    """Write a table."""
    if form == "md":
        lines = ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]]
        return "\n".join(lines) + "\n"
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for first, *rest in [head, *rows]:
        lines += [f"   * - {first}", *(f"     - {cell}".rstrip() for cell in rest)]
    return "\n".join(lines) + "\n"


def heading(text: str, level: int, form: str) -> str:
    """Write a heading."""
    return (
        f"{'#' * level} {text}\n" if form == "md" else f"{text}\n{'=-~^'[level - 1] * len(text)}\n"
    )


def number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """Write a number; nothing where there is none."""
    if value is None or np.isnan(value):
        return ""
    return f"{value:{'+' if sign else ''}.{digits}f}"


def mean_and_interval(values: np.ndarray) -> str:
    """Write a mean over seeds."""
    if len(values) == 0:
        return ""
    mean, half = interval(values)
    return number(mean) + (f" ± {half:.4f}" if not np.isnan(half) else "")


def rela_impr(cells: Cells, base: Cells, low: bool) -> str:
    """Write RelaImpr of the mean AUCs over the seeds that both have."""
    both = [s for s in cells if s in base]
    a, b = (over_seeds({s: c[s] for s in both}, low) for c in (cells, base))
    if len(a) == 0 or len(b) == 0 or b.mean() <= 0.5:
        return ""
    return number(relative_improvement(float(a.mean()), float(b.mean())), 2, sign=True)


def difference_cell(found: Difference | None) -> str:
    """Write a difference with its interval."""
    if found is None:
        return ""
    interval_ = f" [{number(found.low, sign=True)}, {number(found.high, sign=True)}]"
    return number(found.value, sign=True) + ("" if np.isnan(found.low) else interval_)


def seconds(cells: Cells) -> dict[str, float]:
    """Mean seconds of each step."""
    steps = {k: 0.0 for cell in cells.values() for k in cell.result["seconds"]}
    return {
        k: float(np.mean([c.result["seconds"].get(k, 0) for c in cells.values()])) for k in steps
    }


def main_table(name: str, names: list[str], cells: dict[str, Cells], data: str, form: str) -> str:
    """Write AUC and RelaImpr of each method, the paper's beside ours."""
    paper = PAPER.get(data, {}).get(name, {})
    base = cells.get("base", {})
    rows = []
    for method in names:
        own = cells.get(method, {})
        auc, impr = paper.get(method, (None, None))
        row = [METHODS[method].label, number(auc), mean_and_interval(over_seeds(own))]
        row += [mean_and_interval(over_seeds(own, low=True)), number(impr, 2, sign=True)]
        row += [rela_impr(own, base, low) for low in (False, True)]
        row += [f"{sum(seconds(own).values()):.0f}" if own else "", str(len(own) or "not run")]
        rows.append(row)
    head = ["method", "paper's AUC", "AUC", "AUC low-active", "paper's RelaImpr", "RelaImpr"]
    return table([*head, "RelaImpr low-active", "seconds", "seeds"], rows, form)


def tests(pairs: list[tuple[str, str]], cells: dict[str, Cells], form: str) -> str:
    """Write paired tests of the first of each pair against the second."""
    pairs = [(a, b) for a, b in pairs if a in cells and b in cells]
    every = [difference(cells[a], cells[b]) for a, b in pairs]
    low = [difference(cells[a], cells[b], low=True) for a, b in pairs]
    rows = []
    for (a, b), d, p, e, q in zip(pairs, every, corrected(every), low, corrected(low)):
        counts = [
            f"{sum(v < 0.05 for v in values)} of {len(values)}" if values else ""
            for values in single_seed_tests(cells[a], cells[b])
        ]
        row = [f"{METHODS[a].label} − {METHODS[b].label}", difference_cell(d), number(p)]
        rows.append([*row, *counts, difference_cell(e), number(q)])
    head = ["pair", "all users", "p", "DeLong", "GAUC", "low-active", "p low-active"]
    return table(head, rows, form)


def deciles(names: list[str], cells: dict[str, Cells], form: str) -> str:
    """Write AUC by decile of the own history's length."""
    found = {n: [c.deciles() for c in cells[n].values()] for n in names if n in cells}
    rows = []
    for name, values in found.items():
        auc = np.array([v[0] for v in values])
        there = ~np.isnan(auc).all(axis=0)
        mean = np.full(N_BINS, np.nan)
        mean[there] = np.nanmean(auc[:, there], axis=0)
        rows.append([METHODS[name].label, *map(number, mean)])
    if not rows:
        return ""
    ranges = next(iter(found.values()))[0][1]
    head = [f"{i}: {a} to {b}" if a <= b else f"{i}" for i, (a, b) in enumerate(ranges, 1)]
    return table(["decile: items", *head], rows, form)


def cost(names: list[str], cells: dict[str, Cells], form: str) -> str:
    """Write seconds of each step."""
    steps = ["encode", "align", "augment", "fit", "predict"]
    rows = []
    for name in (n for n in names if n in cells):
        taken = seconds(cells[name])
        rss = max(c.result["peak_rss_mb"] for c in cells[name].values())
        row = [number(taken.get(s), 1) if s in taken else "" for s in steps]
        rows.append([METHODS[name].label, *row, str(rss)])
    return table(["seconds", *steps, "peak memory of the process, MB"], rows, form)


def leave_last_out_page(
    name: str, names: list[str], folder: Path, data: str, form: str
) -> list[str]:
    """Write one table with its tests."""
    cells = read_cells(folder / "full")
    own = names if name == "2" else [n for n in names if n not in ("base", *CONTROLS, "mars")]
    if not any(n in cells for n in own):
        return []
    out = [heading(TITLES[name], 3, form), main_table(name, names, cells, data, form)]
    if name != "2":  # what a change makes of the MARS that it changes
        pairs = [(METHODS[n].like or "retrieval", n) for n in own]
        return [*out, tests(pairs, cells, form)]
    out += [tests([("mars", n) for n in names if n not in ("mars", *ON_IDS)], cells, form)]
    against = ["base", *BASELINES, "activity", "retrieval-random", "borrow"]
    out += [tests([("retrieval", n) for n in against], cells, form)]
    out += [tests([(n, "base") for n in names if n not in ("base", "mars")], cells, form)]
    out += [heading("AUC by activity", 4, form), deciles(names, cells, form)]
    out += [heading("Cost of each stage", 4, form), cost(names, cells, form)]
    return out


def scarcity_page(names: list[str], folder: Path, form: str, picture: Path | None) -> list[str]:
    """Write AUC of the cut users against the number of items kept, and MARS against the rest."""
    points = {kept: read_cells(folder / split_name(kept)) for kept in KEPT}
    points = {k: v for k, v in points.items() if v}
    if not points:
        return []
    head = ["items kept", *("all" if k is None else str(k) for k in points)]
    rows = [
        [METHODS[n].label, *(mean_and_interval(over_seeds(p.get(n, {}))) for p in points.values())]
        for n in names
    ]
    out = [heading(TITLES["scarcity"], 3, form), table(head, rows, form)]
    rows = []
    pairs = [("mars", n) for n in names if n not in ("mars", *ON_IDS)]
    pairs += [("no-items", n) for n in ("base", "factors", "random-donors")]
    pairs += [("retrieval", n) for n in ("base", "activity", "retrieval-random")]
    for one, other in pairs:
        found = [difference(p.get(one, {}), p.get(other, {})) for p in points.values()]
        if not any(found):
            continue
        row = [
            f"{difference_cell(d)}, p = {number(p)}" if d else ""
            for d, p in zip(found, corrected(found))
        ]
        rows.append([f"{METHODS[one].label} − {METHODS[other].label}", *row])
    out.append(table(head, rows, form))
    if picture is not None:
        from benchmarks.paper.figure import draw_scarcity

        draw_scarcity(points, names, picture)
        alt = "AUC against items kept"
        link = f"![{alt}]({picture.name})\n" if form == "md" else f".. image:: {picture.name}\n"
        out.append(link)
    return out


def checks_page(folder: Path, form: str) -> list[str]:
    """Write what the checks of the space found: every number as a mean over the seeds."""
    out = []
    for check in sorted(p for p in folder.glob("checks/*") if p.is_dir()):
        files = [json.loads(p.read_text()) for p in sorted(check.glob("*.json"))]
        rows: list[dict[str, Any]] = [row for file in files for row in file["rows"]]
        if not rows:
            continue
        keys = [k for k, v in rows[0].items() if isinstance(v, str)]
        values = [k for k in rows[0] if k not in keys]
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(tuple(row[k] for k in keys), []).append(row)
        body = [
            [*group, *(mean_and_interval(np.array([r[v] for r in found])) for v in values)]
            for group, found in groups.items()
        ]
        out += [heading(files[0]["title"], 3, form), table([*keys, *values], body, form)]
    return out


def conditions(folder: Path, split: str) -> dict[str, Any]:
    """Return the protocol and the versions of the cells of a split; empty if there are none."""
    first = next(iter(sorted(folder.glob(f"{split}/*/[0-9]*.json"))), None)
    if first is None:
        return {}
    found = json.loads(first.read_text())
    return {**found["protocol"], **found["versions"]}


def stated(found: dict[str, Any]) -> str:
    """Write under which conditions cells were made."""
    return ", ".join(f"{k}: {v}" for k, v in found.items()) + "\n" if found else ""


def page(output: Path, form: str, pictures: Path | None) -> str:
    """Write everything that is in a folder of results."""
    read_cells.cache_clear()
    out = [heading("The paper's tables", 1, form), NOTES + "\n"]
    for folder in sorted(p for p in output.glob("*/*") if p.is_dir()):
        data, setting = folder.parts[-2:]
        full, scarce = (conditions(folder, split) for split in ("full", "keep-*"))
        if not (full or scarce):
            continue
        content = (full or scarce)["kind"] not in AMAZON
        out += [heading(f"{data}, setting “{setting}”", 2, form), stated(full)]
        for name in TABLES:
            names = methods_of(name, setting, content=content)
            if name == "scarcity":
                out.append(stated(scarce))
                picture = pictures and pictures / f"scarcity-{data}-{setting}.svg"
                out += scarcity_page(names, folder, form, picture)
            else:
                out += leave_last_out_page(name, names, folder, data, form)
        out += checks_page(folder, form)
    return "\n".join(out)


def main(argv: list[str]) -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper report", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder of the cells")
    parser.add_argument("--format", choices=["md", "rst"], default="md")
    parser.add_argument("--to", type=Path, help="file; pictures go beside it (needs matplotlib)")
    arguments = parser.parse_args(argv)
    text = page(arguments.output, arguments.format, arguments.to and arguments.to.parent)
    if arguments.to:
        arguments.to.write_text(text)
    else:
        print(text)
