"""How fast is skmars, side by side with what people would use instead?

    python -m benchmarks.peers                                   # all parts, synthetic data
    python -m benchmarks.peers --parts din-train,din-predict --data toys path/to/toys.txt
    python -m benchmarks.peers --parts din-train --data ml-1m path/to/ml-1m --repeats 3
    python -m benchmarks.peers --parts retrieval,transform --donors 100000 --queries 100000

Contenders run in alternation, on the same data, with the same batch size, network and number of
threads; the table has the median and the spread over the repeats, and the share of what the
machine does at best: its own float32 matrix product where the work is arithmetic (useful
operations only: the formulas stand in `benchmarks/parts`), its own copying where it is memory.
Imports and the grid search have no such limit. A contender that is not installed is named and
left out. Ratios are to the first contender of a part: above 1 it takes longer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, machine, table, threads

DIN_PARTS = ["din-train", "din-predict"]
PARTS = [
    *DIN_PARTS,
    "din-memory",
    "container",
    "retrieval",
    "transform",
    "aligner",
    "encoder",
    "import",
    "grid",
]


def run(arguments: argparse.Namespace) -> list[Result]:
    """Run the chosen parts, one after another."""
    from benchmarks.parts import din, retrieval, steps

    jobs: dict[str, Callable[[Any], list[Result]]] = {
        "din-memory": din.memory,
        "container": steps.container,
        "retrieval": retrieval.search,
        "transform": retrieval.transform,
        "aligner": steps.aligner,
        "encoder": steps.encoder,
        "import": steps.imports,
        "grid": steps.grid,
    }
    results: list[Result] = []
    together = [part for part in DIN_PARTS if part in arguments.parts]
    if together:
        results += din.train_and_predict(arguments, together)
        print(table(results), flush=True)
    for part, job in jobs.items():
        if part in arguments.parts:
            done = job(arguments)
            print(table(done), flush=True)
            results += done
    return results


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--parts", type=_parts, default=PARTS, help=",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("peers.json"))
    only = "DIN, retrieval: only these"
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help=only)
    rows = parser.add_argument_group("interactions (DIN, container, aligner)")
    rows.add_argument("--data", nargs=2, metavar=("KIND", "PATH"), help="toys FILE, ml-1m FOLDER")
    rows.add_argument("--rows", type=int, help="about so many rows only")
    rows.add_argument("--mean-length", type=float, default=40.0, help="synthetic: events of a user")
    rows.add_argument("--sigma", type=float, default=1.0, help="synthetic: spread of its logarithm")
    rows.add_argument("--max-length", type=int, default=200, help="items of a history, N")
    rows.add_argument("--batch-size", type=int, default=512)
    rows.add_argument("--loader-workers", type=int, default=0, help="of FuxiCTR's data loaders")
    rows.add_argument("--no-rowwise", dest="rowwise", action="store_false", help="aligner: causal")
    search = parser.add_argument_group("retrieval, transform")
    search.add_argument("--donors", type=int, default=100_000)
    search.add_argument("--queries", type=int, default=100_000, help="transform: its rows")
    search.add_argument("--width", type=int, default=128, help="components; those of the aligner")
    search.add_argument("--k", type=int, default=1)
    others = parser.add_argument_group("encoder, grid")
    others.add_argument("--encoder", help="a SentenceTransformer, its name or folder")
    others.add_argument("--encoder-batch", type=int, default=64)
    others.add_argument("--items", type=int, default=2000, help="texts; items of grid, transform")
    others.add_argument("--users", type=int, default=500, help="users of the grid search")
    return parser


def _parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    return names


def main(command: list[str] | None = None) -> list[Result]:
    """Read the command line and run."""
    arguments = parser().parse_args(command)
    with threads(arguments.threads):
        where = machine()
        print(json.dumps(where), flush=True)
        results = run(arguments)
    print("\n" + table(results))
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items()}
    report = {"machine": where, "settings": settings, "results": [asdict(r) for r in results]}
    arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return results


if __name__ == "__main__":
    main()
