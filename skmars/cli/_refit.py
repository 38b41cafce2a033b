"""The command `skmars refit`: its arguments, what it prints, and how it ends."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

from skmars.cli._arguments import (
    add_deployment,
    add_keep_and_lease,
    add_seed,
    not_negative,
)
from skmars.cli._source import as_source
from skmars.cli._terminal import measure, progress, signal_raises


def add_refit(sub: argparse.ArgumentParser) -> None:
    """Add the arguments of `skmars refit`."""
    add_deployment(sub)
    sub.add_argument(
        "--items",
        metavar="TABLE",
        type=as_source,
        action="append",
        default=[],
        help="table with the content of new items, and of those that changed; may be repeated",
    )
    sub.add_argument(
        "--users",
        dest="user_table",
        metavar="TABLE",
        type=as_source,
        help="table with attributes of users, of new ones and of those that changed",
    )
    sub.add_argument(
        "--fitted",
        metavar="FOLDER",
        type=Path,
        help="take a model that `skmars fit` wrote, instead of fitting one to the store",
    )
    group = sub.add_argument_group("the trial, on what came while the model was fitted")
    worse = group.add_mutually_exclusive_group()
    worse.add_argument(
        "--worse-by",
        metavar="X",
        type=not_negative,
        default=0.1,
        help="refuse the model if its log loss is larger than that of the current one by more than "
        "this (default: 0.1)",
    )
    worse.add_argument(
        "--anyway",
        dest="worse_by",
        action="store_const",
        const=None,
        help="refuse none, however it does",
    )
    add_keep_and_lease(sub, "fits", "refit", keep=2)
    add_seed(sub)
    sub.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace, results: TextIO) -> int:
    """Refit, and return the exit code of the command."""
    if arguments.fitted is not None and (arguments.items or arguments.user_table is not None):
        raise argparse.ArgumentTypeError(
            "--fitted names a model that is fitted already, which --items and --users would not "
            "change. Leave them out, or fit it with them."
        )
    from skmars.cli._worker import Terminated, run_worker
    from skmars.serving import refit
    from skmars.serving.refits._trial import LEAST

    def work(store: Any) -> None:
        with signal_raises(signal.SIGTERM, Terminated):
            done = refit(
                arguments.model,
                store,
                **_tables(arguments, store),
                fitted=arguments.fitted,
                keep=arguments.keep,
                worse_by=arguments.worse_by,
                lease=arguments.lease,
                random_state=arguments.seed,
                watch=lambda pipeline: progress(pipeline, quiet=arguments.quiet),
            )
        if done.model is None:
            raise ValueError(
                f"the new model is refused, and the current one stays: {_told(done.trial)}. Look "
                "for the reason; --worse-by X allows more, --anyway everything."
            )
        if not arguments.quiet:
            print(f"skmars refit: {_in_words(done)}", file=sys.stderr, flush=True)
        if not done.trial.rows:
            print(
                f"skmars refit: {done.model} was not tried: fewer than {LEAST} events came while "
                "it was fitted. Watch it; `skmars rollback` goes back.",
                file=sys.stderr,
                flush=True,
            )

    return run_worker("refit", arguments.store, work)


def _tables(arguments: argparse.Namespace, store: Any) -> dict[str, Any]:
    """Read the tables of items and users, as the current model has their columns."""
    if not arguments.items and arguments.user_table is None:
        return {}
    from skmars.cli._entities import read_attributes, read_items
    from skmars.persistence._saved import load_model
    from skmars.persistence._tables._columns import ids_of
    from skmars.serving.store._current import Current, version_folder

    model = load_model(version_folder(arguments.model, Current.of(store).model))
    tables: dict[str, Any] = {}
    if arguments.user_table is not None:
        if not model.columns.user_attributes:
            raise ValueError(
                f"the model was fitted without attributes of users, so that {arguments.user_table} "
                "is of no use. Leave it out, or fit a model with --users."
            )
        kind = ids_of(model)[model.columns.user]
        tables["users"], _ = read_attributes(arguments.user_table, model.columns, kind)
    tables["items"] = [read_items(path, model) for path in arguments.items]
    return tables


def _in_words(done: Any) -> str:
    what = f"published {done.model}, fitted to {done.n_rows:,} events of {done.n_users:,} users"
    if not done.n_rows:
        what = f"published {done.model}, fitted elsewhere"
    pool = "" if done.pool is None else f", with {done.pool}"
    return f"{what} up to position {done.position}{pool}; {_told(done.trial)}"


def _told(trial: Any) -> str:
    if not trial.rows:
        return "it was not tried"
    loss, current = measure(trial.log_loss), measure(trial.current_log_loss)
    auc, current_auc = measure(trial.auc), measure(trial.current_auc)
    told = f"log loss {loss} (the current one: {current}), AUC {auc} ({current_auc})"
    return f"on the {trial.rows:,} rows since, {told}"
