"""Arguments, help texts and exit codes of the command `skmars`."""

from __future__ import annotations

import argparse
import ast
import math
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TextIO

import skmars
from skmars.cli._tables import ENDINGS, PROBABILITY
from skmars.cli._terminal import Interrupted, interrupt_ends, one_line_warnings, progress
from skmars.utils._files import check_writable

# Exit codes that shells give programs ended by a signal: SIGINT, SIGPIPE.
INTERRUPTED, UNREAD = 128 + 2, 128 + 13

MADE_BY = "file that `skmars fit` wrote"
MODELS, TABLES = (".skmars",), ENDINGS

# Errors whose message is enough; for any other, the type is printed as well.
SELF_EXPLANATORY = (ValueError, TypeError, OSError, ImportError, FloatingPointError, RuntimeError)

OVERVIEW = """\
Click prediction for users with hardly any history, from files.

A log has one row an event (who, which item, when, clicked or not), a table of items
one row an item (id, title, text, path of a picture). skmars learns from both what people
click, and lets users with short histories borrow from look-alikes (arXiv 2509.01184).
Tables are .parquet or .csv files; models are .skmars files."""

EXAMPLES = """\
from a log to predictions:
  skmars fit log.parquet --items items.parquet --out model.skmars
  skmars predict model.skmars candidates.csv --out clicks.csv

to measure a model, keep each user's last impressions out of training, and score them:
  skmars fit log.csv --items items.csv --holdout last --out trial.skmars
  skmars evaluate trial.skmars log.csv

exit codes: 0 success; 1 the data or the model can't be used, one line on stderr says why
(--traceback shows where in the program); 2 the arguments are wrong; 130 interrupted.
Only results go to stdout. An output file is complete or not written at all, and --out
refuses the name of an input.

CSV files are UTF-8 text with a header line; commas, semicolons or tabs separate values.
Ids keep their kind: a column of plain integers (no 007, +7, 7.0, none from 2**63) holds
integers, any other column strings, in all tables of a model.

A model file is a joblib file, and opening one runs code in it: open only files from
people you trust. It holds the histories of the users in the log."""

FIT_EXAMPLES = """\
columns: the log has user_id, item_id, clicked (0/1) and, if there is one, timestamp (numbers
of seconds, or dates like 2026-01-31 18:30:00); the items have item_id, title, text, image.
Options give other names. Paths of images are relative to the folder of ITEMS.

history: what the user did strictly before the row. Rows of the same time (a page, a slate) are
in none of each other's histories, and a row without a time is in nobody's. Without times the
order of the rows counts, or the column that --order names.

examples:
  skmars fit log.parquet --items items.parquet --out model.skmars
  skmars fit ratings.csv --items films.csv --user member --item film --time rated_at \\
      --label stars --click-from 4 --history all --text plot --out films.skmars
  skmars fit log.csv --base --out din.skmars
  skmars fit log.csv --items items.csv --out m.skmars \\
      --set augment__theta=0.3 --set ctr__max_iter=20 --set align__n_components=64
  skmars fit log.csv --items items.csv --out m.skmars \\
      --set "encode__encoders={'text': 'all-MiniLM-L6-v2'}"

steps and their parameters (--set STEP__PARAM=VALUE): encode = MultimodalEncoder,
align = SteinAligner, augment = SequenceRetrievalAugmenter, ctr = DINClassifier.
https://skmars.readthedocs.io describes them."""

ROWS = """\
ROWS has one row a prediction: a user and an item, in columns with the names of the log's.
Users and items may be new. If it has the time column, a row's history is what the user did
strictly before its time, otherwise all that the user has done.

histories come from --log LOG if that is given, else from a list column 'history' of ROWS
(Parquet only), else from the log that the model was fitted on."""

PREDICT_EXAMPLES = """\
examples:
  skmars predict model.skmars candidates.csv --out clicks.parquet
  skmars predict model.skmars candidates.csv --log log-until-today.parquet > clicks.csv

The output has the rows of ROWS in their order: user, item, time, probability."""

EXPLAIN_EXAMPLES = """\
examples:
  skmars explain model.skmars candidates.csv
  skmars explain model.skmars candidates.csv --out borrowed.parquet

The output has one line a borrowed item: the row (from 0), the user, the donor and how alike
they are, the item, its title and how similar it is. Users with long histories borrow nothing."""

EVALUATE_EXAMPLES = """\
examples:
  skmars fit log.csv --items items.csv --holdout last --out trial.skmars
  skmars evaluate trial.skmars log.csv
  skmars evaluate model.skmars other-users.csv --holdout none

The history of a row is what LOG has of the user strictly before it.

The output has AUC (over all rows), GAUC (within each user, then averaged) and the AUC of
low-active users: the 30 percent with the shortest histories."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `skmars` and return its exit code.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; those of the process if None.

    Returns
    -------
    int
        0, 1 if the data or the model can't be used, 130 if interrupted, 141 if the reader of stdout
        stopped.

    Raises
    ------
    SystemExit
        With code 2 if the arguments are wrong, and 0 after ``--help`` and ``--version``.
    """
    arguments = make_parser().parse_args(argv)
    program = f"skmars {arguments.command}"
    results = sys.stdout
    try:
        # What libraries print goes to stderr: stdout is for results.
        with redirect_stdout(sys.stderr), one_line_warnings(program), interrupt_ends():
            _check(arguments)
            arguments.run(arguments, results)
        return 0
    except Interrupted:
        print(f"{program}: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _discard_output(results)
        return UNREAD
    except argparse.ArgumentTypeError as error:
        used: argparse.ArgumentParser = arguments.parser
        used.error(str(error))
    except Exception as error:
        if arguments.traceback:
            traceback.print_exc()
        message = _one_line(error)
        if not isinstance(error, SELF_EXPLANATORY) or not message:
            message = f"{type(error).__name__}: {message} (--traceback shows where)"
        print(f"{program}: error: {message}", file=sys.stderr)
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(_one_line(message))


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _discard_output(results: TextIO) -> None:
    """Discard further output to stdout, which Python would otherwise flush when it ends."""
    with suppress(OSError, ValueError):  # no file of the operating system
        os.dup2(os.open(os.devnull, os.O_WRONLY), results.fileno())


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command `skmars`."""
    parser = _Parser(
        prog="skmars",
        description=OVERVIEW,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skmars {skmars.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Any, summary: str, epilog: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run, parser=sub)
        sub.add_argument("--traceback", action="store_true", help="show where an error arose")
        return sub

    _add_fit(command("fit", _fit, "learn a model from a log and items", FIT_EXAMPLES))

    epilog = f"{ROWS}\n\n{PREDICT_EXAMPLES}"
    _add_rows(command("predict", _make_table, "predict the probability of clicks", epilog))
    epilog = f"{ROWS}\n\n{EXPLAIN_EXAMPLES}"
    _add_rows(command("explain", _make_table, "list what rows borrow, from whom and why", epilog))

    sub = command("evaluate", _make_table, "measure a model on a log", EVALUATE_EXAMPLES)
    sub.add_argument("model", metavar="MODEL", type=Path, help=MADE_BY)
    sub.add_argument("log", metavar="LOG", type=Path, help="the whole log, with labels")
    sub.add_argument(
        "--holdout",
        choices=("last", "none"),
        default="last",
        help="score each user's last impression, which a model fitted with --holdout last has "
        "not seen, or all rows of LOG (default: last)",
    )
    _add_output(sub)
    return parser


def _add_fit(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("log", metavar="LOG", type=Path, help="table with one row an event")
    sub.add_argument(
        "--items", type=Path, help="table with one row an item (not needed with --base)"
    )
    sub.add_argument(
        "--out", metavar="MODEL", type=Path, required=True, help="file to write, .skmars"
    )
    group = sub.add_argument_group("columns")
    group.add_argument("--user", metavar="COLUMN", default="user_id", help="default: user_id")
    group.add_argument("--item", metavar="COLUMN", default="item_id", help="default: item_id")
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
        "--order",
        metavar="COLUMN",
        help="orders the events of a user, where times are missing or less reliable",
    )
    group.add_argument("--label", metavar="COLUMN", default="clicked", help="default: clicked")
    for name in ("title", "text", "image"):
        group.add_argument(
            f"--{name}", metavar="COLUMN", help=f"of ITEMS; default: {name}, if there is one"
        )
    group = sub.add_argument_group("labels and histories")
    group.add_argument(
        "--click-from",
        metavar="VALUE",
        type=_number,
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
    group = sub.add_argument_group("model")
    group.add_argument("--base", action="store_true", help="DIN alone, which borrows nothing")
    group.add_argument(
        "--set",
        metavar="STEP__PARAM=VALUE",
        type=_setting,
        action="append",
        default=[],
        help="a parameter of the model; may be repeated",
    )
    group.add_argument(
        "--holdout",
        choices=("last", "none"),
        default="none",
        help="keep the last two impressions of each user out of training, for evaluate",
    )
    group.add_argument("--seed", type=_seed, default=0, help="same seed, same model (default: 0)")
    sub.add_argument("--quiet", action="store_true", help="no progress")


def _add_rows(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", type=Path, help=MADE_BY)
    sub.add_argument("rows", metavar="ROWS", type=Path, help="table of users and items")
    sub.add_argument("--log", type=Path, help="log for histories, instead of that of fit")
    _add_output(sub)


def _add_output(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--items", type=Path, help="table of items, instead of that of fit")
    sub.add_argument("--out", metavar="FILE", type=Path, help="default: stdout, as CSV")


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"write STEP__PARAM=VALUE, got {text!r}")
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python about the literal
            return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return name, value  # a string without quotes


def _number(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise argparse.ArgumentTypeError(f"write a number, got {text!r}")


def _seed(text: str) -> int:
    with suppress(ValueError):
        if 0 <= (seed := int(text)) < 2**32:
            return seed
    raise argparse.ArgumentTypeError(f"write a number from 0 to 4294967295, got {text!r}")


# --- checks before any work -----------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> None:
    """Check the arguments and the output file, before anything is read.

    Raises
    ------
    argparse.ArgumentTypeError
        If arguments contradict each other.
    OSError, ValueError
        If the output can't be written.
    """
    if arguments.command == "fit":
        _check_columns(arguments)
    out, endings = arguments.out, MODELS if arguments.command == "fit" else TABLES
    if out is None:
        return
    for name in ("model", "log", "rows", "items"):
        path = getattr(arguments, name, None)
        if path is not None and _same(out, path):
            raise argparse.ArgumentTypeError(
                f"--out {out} is the same file as {path}, which is read: the {name} would be lost. "
                "Name another file."
            )
    if out.suffix.lower() not in endings:
        raise ValueError(f"--out {out}: the name must end in {' or '.join(endings)}.")
    try:
        check_writable(out)
    except (OSError, ValueError) as error:
        raise OSError(f"--out: {error}") from error


def _same(out: Path, path: Path) -> bool:
    try:
        return out.samefile(path)
    except (OSError, ValueError):  # one of them does not exist
        return False


def _check_columns(arguments: argparse.Namespace) -> None:
    if arguments.items is None and not arguments.base:
        raise argparse.ArgumentTypeError(
            "MARS compares items by their texts and pictures: pass --items ITEMS, or --base for "
            "DIN alone."
        )
    for option in ("user", "item", "time"):
        if getattr(arguments, option) == PROBABILITY:
            raise argparse.ArgumentTypeError(
                f"--{option} can't be {PROBABILITY!r}, the name of the column of predictions. "
                "Rename the column."
            )


# --- the commands ---------------------------------------------------------------------------


def _fit(arguments: argparse.Namespace, results: TextIO) -> None:
    from skmars.cli import _commands as commands
    from skmars.persistence import Columns, save_model

    try:
        pipeline = commands.make_pipeline(
            base=arguments.base, seed=arguments.seed, settings=arguments.set
        )
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"--set: {error}") from error
    columns = Columns(**{field.name: getattr(arguments, field.name) for field in fields(Columns)})
    with progress(pipeline, quiet=arguments.quiet):
        model = commands.fit(
            arguments.log, arguments.items, pipeline, columns=columns, holdout=arguments.holdout
        )
    save_model(model, arguments.out)
    if not arguments.quiet:
        print(f"skmars fit: wrote {arguments.out}", file=sys.stderr)


def _make_table(arguments: argparse.Namespace, results: TextIO) -> None:
    """Predict, explain or evaluate, and write the table."""
    from skmars.cli import _commands as commands
    from skmars.cli._tables import csv_of, write_table
    from skmars.persistence import load_model

    model, items = load_model(arguments.model), arguments.items
    if arguments.command == "evaluate":
        table = commands.evaluate(model, arguments.log, holdout=arguments.holdout, items=items)
    else:
        run = commands.predict if arguments.command == "predict" else commands.explain
        table = run(model, arguments.rows, log=arguments.log, items=items)
    if arguments.out is not None:
        write_table(table, arguments.out)
    else:
        try:
            results.write(csv_of(table))
            results.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            _discard_output(results)
            raise OSError(f"stdout can't be written: {error.strerror}. Use --out FILE.") from error
