"""The tables of one data set in one setting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.markdown import (
    NOT_MEASURED,
    Rows,
    folded,
    mean_and_interval,
    number,
    table,
    with_interval,
)
from benchmarks.paper.methods import (
    BASELINES,
    METHODS,
    ON_IDS,
    PARTS,
    TABLES,
    TITLES,
)
from benchmarks.paper.results import (
    Cells,
    Model,
    Points,
    corrected,
    difference,
    over_seeds,
    short_histories,
    single_seed_tests,
)
from skmars.metrics import relative_improvement

# What arXiv 2509.01184 reports: AUC and RelaImpr of all users. What is not known is not here.
PAPER = {"ml-1m/paper": {"base": (0.7772, None), "as-printed": (0.7813, 1.48)}}
SHOWN = ["base", "factors", "random-donors", "mars"]  # what a reader compares first
USUAL_SEEDS = 5  # fewer are named
Found = Mapping[str, Mapping[int, Model]]  # by method and seed


def label(name: str) -> str:
    """Name a method; the default pipeline in bold."""
    return f"**{METHODS[name].label}**" if name == "mars" else METHODS[name].label


def best_baseline(found: Found, part: str = "all") -> str | None:
    """Return the baseline of the highest mean AUC; None if none has been measured."""
    means = {n: over_seeds(found[n], part) for n in BASELINES if n in found}
    means = {n: values for n, values in means.items() if len(values)}
    return max(means, key=lambda n: float(means[n].mean()), default=None)


def scores(names: list[str], cells: Found) -> str:
    """Write AUC, AUC of low-active users, log loss and calibration error of each method."""
    counts = {len(cells[n]) for n in names if n in cells}
    head = ["method", "AUC", "AUC, low-active", "log loss", "ECE"]
    columns = [("all", "AUC"), ("low", "AUC"), ("all", "log loss"), ("all", "ECE")]
    rows = []
    for name in (n for n in names if n in cells):
        own = cells[name]
        row = [label(name), *(mean_and_interval(over_seeds(own, p, k)) for p, k in columns)]
        rows.append(row if len(counts) < 2 else [*row, str(len(own))])
    out = table(head if len(counts) < 2 else [*head, "seeds"], rows)
    others = "; ".join(METHODS[n].label for n in names if n not in cells)
    return f"{out}\nNot measured with this version: {others}.\n" if others else out


def differences(pairs: list[tuple[str, str]], cells: dict[str, Cells]) -> str:
    """Write paired tests of the first of each pair against the second."""
    pairs = [(a, b) for a, b in pairs if a in cells and b in cells]
    if not pairs:
        return ""
    every = [difference(cells[a], cells[b]) for a, b in pairs]
    low = [difference(cells[a], cells[b], "low") for a, b in pairs]
    rows = []
    for (a, b), d, p, e, q in zip(pairs, every, corrected(every), low, corrected(low)):
        delong = single_seed_tests(cells[a], cells[b])
        count = f"{sum(v < 0.05 for v in delong)} of {len(delong)}"
        row = [f"{METHODS[a].label} − {METHODS[b].label}", with_interval(d), number(p, 3), count]
        rows.append([*row, with_interval(e), number(q, 3)])
    return table(["pair", "all users", "p", "DeLong", "low-active", "p, low-active"], rows)


def short(found: Found, part: str) -> str:
    """Write AUC of short histories, and how much the default pipeline has more."""
    order = ["base", *BASELINES, "factors", "random-donors", *PARTS, "mars"]
    names = [n for n in order if n in found and len(over_seeds(found[n], part))]
    if not names:
        return ""
    mars = found.get("mars", {})
    more = [None if n == "mars" else difference(mars, found[n], part) for n in names]
    rows = [
        [label(n), mean_and_interval(over_seeds(found[n], part))]
        + ([with_interval(d), number(p, 3)] if n != "mars" else ["", ""])
        for n, d, p in zip(names, more, corrected(more))
    ]
    return table(["method", "AUC", "default pipeline − method", "p"], rows)


def deciles(cells: dict[str, Cells]) -> str:
    """Write AUC by decile of the own history's length."""
    names = [n for n in [SHOWN[0], best_baseline(cells), *SHOWN[1:]] if n in cells]
    if not names:
        return ""
    found = {n: [c.deciles() for c in cells[n].values()] for n in names if n}
    ranges = next(iter(found.values()))[0][1]
    rows: Rows = []
    for i, (least, most) in enumerate(ranges):
        if least > most:
            continue
        values = [[v[i] for v, _ in of_name if not np.isnan(v[i])] for of_name in found.values()]
        means = [number(float(np.mean(v))) if v else "" for v in values]
        rows.append([f"{least} to {most}" if least < most else f"{least}", *means])
    return table(["items in the history", *(METHODS[n].label for n in found)], rows)


def seconds(cells: Cells) -> dict[str, float]:
    """Mean seconds of each step."""
    steps = {k: 0.0 for cell in cells.values() for k in cell.result["seconds"]}
    return {
        k: float(np.mean([c.result["seconds"].get(k, 0) for c in cells.values()])) for k in steps
    }


def cost(names: list[str], cells: dict[str, Cells]) -> str:
    """Write seconds of each step."""
    steps = ["encode", "align", "augment", "fit", "predict"]
    rows = []
    for name in (n for n in names if n in cells):
        taken = seconds(cells[name])
        rss = max(c.result["peak_rss_mb"] for c in cells[name].values())
        row = [number(taken.get(s), 1) if s in taken else "" for s in steps]
        rows.append([METHODS[name].label, str(len(cells[name])), *row, str(rss)])
    return table(["method", "seeds", *steps, "peak memory, MB"], rows) if rows else ""


def improvement(names: list[str], cells: dict[str, Cells], data: str) -> str:
    """Write RelaImpr of the mean AUCs over DIN, and the paper's numbers where it has some."""
    base, paper = cells.get("base", {}), PAPER.get(data, {})
    rows = []
    for name in (n for n in names if n in cells and base):
        row = [METHODS[name].label]
        for part in ("all", "low"):
            both = [s for s in cells[name] if s in base]
            a, b = (over_seeds({s: c[s] for s in both}, part) for c in (cells[name], base))
            there = len(a) > 0 and len(b) > 0 and b.mean() > 0.5
            found = relative_improvement(float(a.mean()), float(b.mean())) if there else None
            row.append(number(found, 2, sign=True))
        auc, relative = paper.get(name, (None, None))
        rows.append([*row, *([number(auc), number(relative, 2, sign=True)] if paper else [])])
    head = ["method", "RelaImpr, %", "low-active, %"]
    head += ["paper's AUC", "paper's RelaImpr, %"] if paper else []
    return table(head, rows) if rows else ""


def scarcity(points: Points) -> str:
    """Write AUC of the users whose histories are cut, against the number of items kept."""
    head = ["items kept", *("all" if k is None else str(k) for k in points)]
    rows = [
        [label(n), *(mean_and_interval(over_seeds(p.get(n, {}))) for p in points.values())]
        for n in METHODS
        if any(n in p for p in points.values())
    ]
    return table(head, rows)


def scarcity_differences(points: Points) -> list[str]:
    """Write how much one method has more than others: a row each number of items kept."""
    against = {
        "mars": ["base", *BASELINES, "factors", "content", "random-donors", *PARTS],
        "no-items": ["base", "factors", "random-donors"],
        "retrieval": ["base", "activity", "retrieval-random"],
    }
    out = []
    for one, others in against.items():
        columns = {}
        for other in others:
            found = [difference(p.get(one, {}), p.get(other, {})) for p in points.values()]
            if any(found):
                cells = zip(found, corrected(found))
                columns[f"− {METHODS[other].label}"] = [
                    f"{with_interval(d)}, p = {number(p, 3)}" if d else "" for d, p in cells
                ]
        kept = ["all" if k is None else str(k) for k in points]
        if columns:
            rows = [list(row) for row in zip(kept, *columns.values())]
            out.append(table([f"{METHODS[one].label}: items kept", *columns], rows))
    return out


def table_2_folded(data: str, names: list[str], cells: dict[str, Cells]) -> str:
    """Write what else there is to tell of all methods, folded."""
    against = ["base", *BASELINES, "activity", "retrieval-random", "borrow"]
    return "\n".join(
        [
            folded(
                "Differences and tests",
                differences([("mars", n) for n in names if n not in ("mars", *ON_IDS)], cells),
                differences([("retrieval", n) for n in against], cells),
                differences([(n, "base") for n in names if n != "base"], cells),
            ),
            folded("Histories of at most 5 items", short(cells, "few")),
            folded("AUC by the length of the history", deciles(cells)),
            folded("Relative improvement (RelaImpr)", improvement(names, cells, data)),
            folded("Cost: seconds of each step, mean over the seeds", cost(names, cells)),
        ]
    )


def further_table(name: str, names: list[str], cells: dict[str, Cells]) -> str:
    """Write ablations or a curve, folded; nothing where none of its own cells is there."""
    own = [n for n in names if n not in (*TABLES["2"], "aligned-space")]
    if not any(n in cells for n in own):
        return ""
    shown = [n for n in names if n in cells]
    pairs = [(METHODS[n].like or "retrieval", n) for n in own]
    return folded(TITLES[name], scores(shown, cells), differences(pairs, cells))


def scarcity_part(points: Points, picture: str) -> str:
    """Write the scarcity curve: its picture first, the numbers folded."""
    if not points:
        return ""
    alt = "AUC against the items kept, of DIN, DIN + item factors and the default pipeline"
    return "\n".join(
        [
            "Scarcity: the histories of 30 % of the users are cut to their last items. AUC of the "
            "last five rows of these users:\n",
            f"![{alt}]({picture})\n",
            folded("AUC by the number of items kept", scarcity(points)),
            folded(
                "Histories of 0 to 5 items: mean over 0, 1, 2, 3 and 5 kept",
                short(short_histories(points), "all"),
            ),
            folded("Differences by the number of items kept", *scarcity_differences(points)),
        ]
    )


def checks(folder: Path) -> str:
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
        out.append(folded(files[0]["title"], table([*keys, *values], body)))
    return "\n".join(out)


def summary(found: dict[str, dict[str, Cells]]) -> str:
    """Write one row a data set: AUC of what a reader compares first, and log losses."""
    rows, names = [], ["rates", "as-printed", *SHOWN[1:]]
    for title, cells in found.items():
        best = best_baseline(cells)
        row = [_mean(cells, "base"), _mean(cells, best, METHODS[best].label) if best else ""]
        row += [_mean(cells, n) for n in names]
        row += [_mean(cells, n, kind="log loss") for n in ("base", "mars")]
        rows.append([title, *(value or NOT_MEASURED for value in row)])
    head = ["data", "DIN", "best baseline", *(METHODS[n].label for n in names)]
    return table([*head, "log loss: DIN", "log loss: default pipeline"], rows)


def _mean(cells: Found, name: str, label: str = "", *, kind: str = "AUC") -> str:
    values = over_seeds(cells.get(name, {}), "all", kind)
    if not len(values):
        return ""
    about = [label] if label else []
    if len(values) < USUAL_SEEDS and kind == "AUC":
        about.append("1 seed" if len(values) == 1 else f"{len(values)} seeds")
    return number(float(values.mean()), 3) + (f" ({', '.join(about)})" if about else "")
