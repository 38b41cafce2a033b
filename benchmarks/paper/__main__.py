"""Rebuild the paper's tables.

    python -m benchmarks.paper --data path/to/ml-1m --table 2
    python -m benchmarks.paper --data path/to/ml-1m --table scarcity --setting strong
    python -m benchmarks.paper --synthetic --table 2 3
    python -m benchmarks.paper --data-kind shop --table 2
    python -m benchmarks.paper --data path/to/toys.txt --data-kind amazon-ids --table 2
    python -m benchmarks.paper --data path/to/beauty.txt --data-kind amazon-beauty --table 2
    python -m benchmarks.paper --data path/to/ml-1m --table retrieval alignment
    python -m benchmarks.paper report

`amazon-beauty` is the 7-core of the file, as in the paper.

Runs can be interrupted, and go on where they stopped. `report` writes the tables
and pictures of docs/evidence from what is there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.movielens import settings_of
from benchmarks.paper import checks
from benchmarks.paper.data import AMAZON
from benchmarks.paper.experiment import RECENT, Experiment
from benchmarks.paper.methods import METHODS, TABLES, methods_of, split_of
from benchmarks.paper.run import run_cell


def arguments_of(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of MovieLens-1M, or file of ids")
    parser.add_argument("--data-kind", choices=["ml-1m", "shop", *AMAZON], default="ml-1m")
    parser.add_argument("--synthetic", action="store_true", help="make_multimodal_ctr instead")
    parser.add_argument("--table", nargs="+", choices=[*TABLES, *checks.CHECKS], default=["2"])
    parser.add_argument("--setting", choices=["paper", "strong"], default="paper")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--users", type=int, help="so many users only")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument(
        "--recent", type=int, default=RECENT, help="train on so many events of each user, the last"
    )
    rows.add_argument("--all-rows", action="store_true", help="train on all events instead")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="only these")
    parser.add_argument(
        "--candidates", type=int, default=1, help="settings to try for each method, of four"
    )
    parser.add_argument("--encoders", choices=["pretrained", "offline"], help="of text and image")
    parser.add_argument("--cache", type=Path, help="folder for encoded items")
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument("--set", nargs="*", default=[], help="step__parameter=value, for all")
    arguments = parser.parse_args(argv)
    if arguments.data_kind in AMAZON and arguments.setting == "strong":
        parser.error(
            f"{arguments.data_kind} has neither feedback nor content: --setting paper only"
        )
    if not (arguments.data or arguments.synthetic or arguments.data_kind == "shop"):
        parser.error("--data PATH, --data-kind shop or --synthetic")
    return arguments


def main(argv: list[str]) -> None:
    """Run all cells of the tables that are not there yet."""
    if argv[:1] == ["report"]:
        from benchmarks.paper import report  # needs matplotlib

        report.main(argv[1:])
        return
    arguments = arguments_of(argv)
    kind = "synthetic" if arguments.synthetic else arguments.data_kind
    experiment = Experiment(
        kind=kind,
        data=arguments.data,
        setting=arguments.setting,
        users=arguments.users,
        encoders=arguments.encoders or ("pretrained" if kind == "ml-1m" else "offline"),
        output=arguments.output,
        cache=arguments.cache,
        n_candidates=arguments.candidates,
        recent=None if arguments.all_rows else arguments.recent,
        override=settings_of(arguments.set),
    )
    for table in arguments.table:
        for seed in arguments.seeds:
            if table in checks.CHECKS:
                checks.run_check(experiment, table, seed)
                continue
            names = methods_of(table, experiment.setting, content=kind not in AMAZON)
            for name in names:
                if not arguments.methods or name in arguments.methods:
                    run_cell(experiment, split_of(table), name, seed)


if __name__ == "__main__":
    main(sys.argv[1:])
