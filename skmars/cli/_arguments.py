"""The arguments of each command, and the types of their values."""

from __future__ import annotations

import argparse
import ast
import math
import os
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from skmars.cli._source import as_source
from skmars.persistence._tables._times import check_format

MADE_BY = "folder that `skmars fit` wrote"
STORE = "SKMARS_STORE"  # environment variable: a list of processes shows arguments to everybody

# What `skmars.pipeline.compare` compares, from the simple to the complex.
MODELS = ("popularity", "click rates", "DIN", "DIN + factors", "MARS")

Parser = argparse.ArgumentParser


def add_fit(sub: Parser) -> None:
    add_log(sub, " (not needed with --base)")
    sub.add_argument("--out", metavar="MODEL", type=Path, required=True, help="folder to write")
    group = sub.add_argument_group("model")
    group.add_argument("--base", action="store_true", help="DIN alone, which borrows nothing")
    group.add_argument(
        "--variant",
        choices=("default", "paper"),
        default="default",
        help="the recommended model, or MARS as printed in the paper (default: default)",
    )
    group.add_argument(
        "--set",
        metavar="STEP__PARAM=VALUE",
        type=setting,
        action="append",
        default=[],
        help="a parameter of the model; may be repeated",
    )
    add_negatives(group)
    kept = group.add_mutually_exclusive_group()
    kept.add_argument(
        "--holdout",
        choices=("last", "none"),
        default="none",
        help="keep the last two impressions of each user out of training, for evaluate",
    )
    add_split_at(kept, "keep all rows from this time on out of training, for evaluate")
    add_seed(group)
    sub.add_argument("--quiet", action="store_true", help="no progress")


def add_log(sub: Parser, optional: str) -> None:
    """Add the arguments that tell how a log and its items are read."""
    sub.add_argument("log", metavar="LOG", type=as_source, help="table with one row an event, or -")
    sub.add_argument("--items", type=as_source, help=f"table with one row an item{optional}")
    sub.add_argument(
        "--users",
        dest="user_table",
        metavar="TABLE",
        type=as_source,
        help="table with one row a user: the user id, and attributes such as age and country",
    )
    group = sub.add_argument_group("columns")
    group.add_argument("--user", metavar="COLUMN", default="user_id", help="default: user_id")
    group.add_argument("--item", metavar="COLUMN", default="item_id", help="default: item_id")
    group.add_argument(
        "--ids",
        choices=("auto", "strings"),
        default="auto",
        help="strings: ids are strings, as they are written; auto: a column of plain integers "
        "(no 007, +7, 7.0) holds integers (default: auto)",
    )
    times = group.add_mutually_exclusive_group()
    times.add_argument(
        "--time",
        metavar="COLUMN",
        default="timestamp",
        help="default: timestamp, or else the one column of dates or of a usual name (time, date)",
    )
    times.add_argument(
        "--no-time",
        dest="time",
        action="store_const",
        const=None,
        help="there are no times: the order of the rows of LOG is that of the events",
    )
    group.add_argument(
        "--time-format",
        metavar="FORMAT",
        type=time_format,
        help="how times are written: a pattern such as %%d/%%m/%%Y, or the unit of numbers: "
        "seconds, milliseconds, microseconds or nanoseconds (default: ISO 8601, or seconds)",
    )
    group.add_argument(
        "--order",
        metavar="COLUMN",
        help="orders the events of a user, where times are missing or less reliable",
    )
    group.add_argument("--label", metavar="COLUMN", default="clicked", help="default: clicked")
    group.add_argument(
        "--context",
        metavar="COLUMN",
        type=columns,
        action="extend",
        default=[],
        help="further columns of LOG to predict from, such as device,hour; may be repeated",
    )
    for name in ("title", "text", "image"):
        group.add_argument(
            f"--{name}", metavar="COLUMN", help=f"of ITEMS; default: {name}, if there is one"
        )
    group.add_argument(
        "--attributes",
        metavar="COLUMN",
        type=columns,
        action="extend",
        default=[],
        help="attributes of ITEMS, such as price,category,genres; may be repeated",
    )
    group.add_argument(
        "--user-attributes",
        metavar="COLUMN",
        type=columns,
        action="extend",
        default=[],
        help="attributes of the table of --users (default: all its columns but the user id)",
    )
    group.add_argument(
        "--list-separator",
        metavar="TEXT",
        type=separator,
        help="makes lists of attributes in which it occurs, such as | for Action|Comedy",
    )
    group = sub.add_argument_group("labels and histories")
    group.add_argument(
        "--click-from",
        metavar="VALUE",
        type=number,
        help="labels of at least VALUE are clicks (4, for stars from 1 to 5)",
    )
    group.add_argument(
        "--history",
        choices=("all", "positive"),
        default="positive",
        help="a history holds the clicked items, or all, each with its label (default: positive)",
    )
    group.add_argument(
        "--duplicates",
        choices=("warn", "keep", "drop"),
        default="warn",
        help="rows that repeat user, item and time: keep them with or without a warning, or "
        "drop them (default: warn)",
    )


def add_rows(sub: Parser) -> None:
    sub.add_argument("model", metavar="MODEL", type=Path, help=MADE_BY)
    sub.add_argument("rows", metavar="ROWS", type=as_source, help="table of users and items, or -")
    add_histories(sub)
    add_output(sub)


def add_split_at(sub: Any, what: str) -> None:
    sub.add_argument(
        "--split-at",
        metavar="TIME",
        type=moment,
        help=f"{what}: a date like 2026-01-31 (of UTC, unless it has a zone), seconds, or a share "
        "of the rows, such as 0.8",
    )


def add_negatives(sub: Any) -> None:
    sub.add_argument(
        "--negatives",
        metavar="N",
        type=integer(1, 2**31 - 1),
        default=0,
        help="for a log of clicks alone, without labels: draw N other items for each click",
    )


def add_explain(sub: Parser) -> None:
    add_rows(sub)
    sub.add_argument(
        "--words", action="store_true", help="tell of the first ten rows in words, on stdout"
    )


def add_compare(sub: Parser) -> None:
    add_log(sub, " (without it, items are known by their ids alone)")
    sub.add_argument(
        "--without",
        metavar="MODEL",
        choices=MODELS,
        action="append",
        default=[],
        help=f"leave out a model: {', '.join(MODELS)}; may be repeated",
    )
    add_split_at(sub, "test on all rows from this time on, not on the last ones of each user")
    add_negatives(sub)
    add_seed(sub)
    sub.add_argument(
        "--out", metavar="FILE", type=Path, help="file for the table, with all figures"
    )
    sub.add_argument("--quiet", action="store_true", help="no progress")


def add_recommend(sub: Parser) -> None:
    sub.add_argument("model", metavar="MODEL", type=Path, help=MADE_BY)
    who = sub.add_mutually_exclusive_group()
    who.add_argument(
        "users",
        metavar="USERS",
        nargs="?",
        type=as_source,
        help="table of users, or - (default: all users of the log)",
    )
    who.add_argument(
        "--user-id",
        metavar="ID",
        action="append",
        default=[],
        help="a user, instead of a table; may be repeated",
    )
    sub.add_argument(
        "--with",
        dest="context",
        metavar="COLUMN=VALUE",
        type=assignment,
        action="append",
        default=[],
        help="a context column of all users, where there is no table USERS; may be repeated",
    )
    sub.add_argument(
        "-n", metavar="N", type=integer(1, 2**31 - 1), default=10, help="items a user (default: 10)"
    )
    sub.add_argument(
        "--candidates",
        metavar="FILE",
        type=as_source,
        help="table of the items to choose from (default: those of ITEMS, or of the model)",
    )
    sub.add_argument("--include-seen", action="store_true", help="also items of the user's history")
    add_histories(sub)
    add_output(sub)


def add_evaluate(sub: Parser) -> None:
    sub.add_argument("model", metavar="MODEL", type=Path, help=MADE_BY)
    sub.add_argument("rows", metavar="LOG", type=as_source, help="the whole log, with labels, or -")
    sub.add_argument(
        "--holdout",
        choices=("last", "later", "none"),
        help="score each user's last impression, or what is later than --split-at, which a model "
        "fitted with that option has not seen, or all rows of LOG (default: what the model has "
        "not seen; none with --log)",
    )
    add_histories(sub)
    add_output(sub)


def add_keep_and_lease(
    sub: argparse.ArgumentParser, versions: str, worker: str, *, keep: int
) -> None:
    """Add how many versions stay on the disk, and how long others wait for a killed process."""
    sub.add_argument(
        "--keep",
        metavar="N",
        type=integer(1, 1000),
        default=keep,
        help=f"how many {versions} stay on the disk, the current one among them (default: {keep})",
    )
    sub.add_argument(
        "--lease",
        metavar="TIME",
        type=duration,
        default=60.0,
        help=f"how long others wait for a {worker} that was killed: 60s, 5m, 1h, or a number of "
        "seconds (default: 60s)",
    )


def add_deployment(sub: Parser) -> None:
    """Add what is served: a model, with the folders of its versions, and a store."""
    sub.set_defaults(out=None)
    sub.add_argument(
        "--model",
        metavar="DIR",
        type=Path,
        required=True,
        help="folder that `skmars fit` wrote, with the folders of further versions in it",
    )
    sub.add_argument(
        "--store",
        metavar="URL",
        default=os.environ.get(STORE),
        required=STORE not in os.environ,
        help="where events are kept: lmdb:PATH or redis://HOST:PORT/DATABASE (or the environment "
        f"variable {STORE}, which keeps a password out of the list of processes)",
    )


def add_runner(sub: Parser) -> None:
    add_deployment(sub)
    sub.add_argument(
        "--log",
        metavar="LOG",
        type=Path,
        help="Parquet or CSV file, or a folder of them (without it, events come from the service)",
    )
    sub.add_argument(
        "--every",
        metavar="TIME",
        type=duration,
        help="go on, with a pass every so often: 60s, 5m, 1h, or a number of seconds (default: one "
        "pass)",
    )
    add_keep_and_lease(sub, "pools", "runner", keep=3)
    sub.add_argument("--quiet", action="store_true", help="no progress")


def add_histories(sub: Parser) -> None:
    sub.add_argument("--log", type=as_source, help="log for histories, instead of that of fit")
    sub.add_argument(
        "--items",
        type=as_source,
        help="table of items, instead of that of fit: the same items as they were, and new ones",
    )
    sub.add_argument(
        "--users",
        dest="user_table",
        metavar="TABLE",
        type=as_source,
        help="table with attributes of users, instead of that of fit",
    )


def add_output(sub: Parser) -> None:
    sub.add_argument("--out", metavar="FILE", type=Path, help="default: stdout, as CSV")


def add_seed(group: Any) -> None:
    group.add_argument("--seed", type=seed, default=0, help="same seed, same model (default: 0)")


# --- types ------------------------------------------------------------------------------------


def setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"write STEP__PARAM=VALUE, got {text!r}")
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python about the literal
            return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return name, value  # a string without quotes


def assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"write COLUMN=VALUE, got {text!r}")
    return name, value


def number(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"write a number, got {text!r}")


def not_negative(text: str) -> float:
    if (value := number(text)) >= 0:
        return value
    raise argparse.ArgumentTypeError(f"write a number from 0 on, got {text!r}")


def duration(text: str) -> float:
    """Return a time span in seconds."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    with suppress(ValueError):
        seconds = float(text[:-1] if unit else text) * (unit or 1)
        if 0 < seconds <= threading.TIMEOUT_MAX:
            return seconds
    raise argparse.ArgumentTypeError(
        f"write a time span such as 60s, 5m or 1h, or a number of seconds, got {text!r}"
    )


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return the type of integers from `low` to `high`."""

    def read(text: str) -> int:
        with suppress(ValueError):
            if low <= (value := int(text)) <= high:
                return value
        raise argparse.ArgumentTypeError(f"write a number from {low} to {high}, got {text!r}")

    return read


seed = integer(0, 2**32 - 1)


def columns(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"write names of columns, such as a,b; got {text!r}")
    return names


def moment(text: str) -> datetime | float:
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)):
            return seconds
    with suppress(ValueError):
        if not text.isdecimal():  # 20260131 is a number of seconds
            return datetime.fromisoformat(text)
    raise argparse.ArgumentTypeError(
        f"write a date like 2026-01-31, seconds, or a share of the rows such as 0.8; got {text!r}"
    )


def separator(text: str) -> str:
    if text:
        return text
    raise argparse.ArgumentTypeError("write what separates the strings of a list, such as |")


def time_format(text: str) -> str:
    try:
        return check_format(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
