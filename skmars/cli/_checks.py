"""Checks of the arguments and of the output file, before anything is read."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentTypeError
from pathlib import Path

from skmars.cli._arguments import MODELS as COMPARED
from skmars.cli._source import Source, StandardInput
from skmars.cli._tables import ENDINGS, MADE
from skmars.utils._files import check_writable
from skmars.utils._folder import check_replaceable

WITHIN = ("last", "later")
KIND = "model"  # of the folder that `skmars fit` writes
# Arguments that name a file to be read.
INPUTS = ("model", "log", "rows", "users", "items", "candidates", "user_table")


def check(arguments: argparse.Namespace) -> None:
    """Check the arguments and the output file, before anything is read.

    Raises
    ------
    argparse.ArgumentTypeError
        If arguments contradict each other.
    OSError, ValueError
        If the output can't be written.
    """
    inputs = {name: getattr(arguments, name, None) for name in INPUTS}
    sources = [v for given in inputs.values() for v in (given if type(given) is list else [given])]
    if sum(isinstance(source, StandardInput) for source in sources) > 1:
        raise ArgumentTypeError("only one table can come from standard input (-). Name files.")
    if arguments.command == "fit":
        _check_fit(arguments)
    if arguments.command == "compare":
        check_columns(arguments)
        if set(arguments.without) == set(COMPARED):
            raise ArgumentTypeError("--without leaves out all models. Keep one of them.")
    if arguments.command == "recommend" and arguments.users and arguments.context:
        raise ArgumentTypeError("--with is for users without a table. Add the column to USERS.")
    if arguments.command == "explain" and arguments.words and arguments.out is not None:
        raise ArgumentTypeError("--words goes to stdout, and --out writes a table. Choose one.")
    if arguments.command == "evaluate" and arguments.log and arguments.holdout in WITHIN:
        raise ArgumentTypeError(
            f"--holdout {arguments.holdout} takes some rows of LOG and the histories from its "
            "earlier rows; with --log, all rows are scored. Leave one of these options out."
        )
    out = arguments.out
    if out is None:
        return
    for name, path in inputs.items():
        if path is not None and _same(out, path):
            raise ArgumentTypeError(
                f"--out {out} is the same file as {path}, which is read: the {name} would be lost. "
                "Name another file."
            )
    model = getattr(arguments, "model", None)
    if model is not None and Path(os.path.realpath(model)) in Path(os.path.realpath(out)).parents:
        raise ArgumentTypeError(
            f"--out {out} is in the folder of the model, {model}, which would then be none. Name "
            "another place."
        )
    makes_model = arguments.command == "fit"
    if not makes_model and out.suffix.lower() not in ENDINGS:
        raise ValueError(f"--out {out}: the name must end in {' or '.join(ENDINGS)}.")
    try:
        if makes_model:
            check_replaceable(out, KIND)
        else:
            check_writable(out)
    except (OSError, ValueError) as error:
        raise OSError(f"--out: {error}") from error


def _same(out: Path, source: Source) -> bool:
    try:
        if isinstance(source, StandardInput):
            return os.path.samestat(out.stat(), os.fstat(sys.stdin.fileno()))
        return out.samefile(source)
    except (OSError, ValueError, AttributeError):  # one of them does not exist
        return False


def _check_fit(arguments: argparse.Namespace) -> None:
    if arguments.items is None and not arguments.base:
        raise ArgumentTypeError(
            "MARS compares items by their texts and pictures: pass --items ITEMS, or --base for "
            "DIN alone."
        )
    if arguments.base and arguments.variant != "default":
        raise ArgumentTypeError(
            f"--base is DIN alone, and --variant {arguments.variant} a variant of MARS. Leave one "
            "of them out."
        )
    check_columns(arguments)


def check_columns(arguments: argparse.Namespace) -> None:
    """Check the arguments that tell how a log is read."""
    for option in ("user", "item", "time"):
        if (column := getattr(arguments, option)) in MADE:
            raise ArgumentTypeError(
                f"--{option} can't be {column!r}, the name of a column of predictions. "
                "Rename the column."
            )
    if arguments.time is None and arguments.time_format is not None:
        raise ArgumentTypeError(
            "--no-time makes do without times, and --time-format tells how they are written. "
            "Leave one of them out."
        )
    if arguments.attributes and arguments.items is None:
        raise ArgumentTypeError("--attributes names columns of ITEMS: pass --items ITEMS, too.")
    if arguments.user_attributes and arguments.user_table is None:
        raise ArgumentTypeError("--user-attributes names columns of a table: pass --users, too.")
    if arguments.item in arguments.attributes or arguments.user in arguments.user_attributes:
        raise ArgumentTypeError("the column of ids is no attribute. Leave it out.")
    for option in ("user", "item", "time", "order", "label"):
        if (column := getattr(arguments, option)) in arguments.context:
            raise ArgumentTypeError(
                f"--context {column} is the column of --{option}. A column has one meaning; name "
                "another one."
            )
