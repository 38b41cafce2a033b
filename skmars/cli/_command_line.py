"""The command `skmars`: its commands, exit codes and errors."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import fields
from typing import Any, NoReturn, TextIO

import skmars
from skmars.cli import _arguments as add
from skmars.cli import _help as texts
from skmars.cli._checks import check
from skmars.cli._export import add_export
from skmars.cli._export import run as export
from skmars.cli._refit import add_refit
from skmars.cli._refit import run as refit
from skmars.cli._replay import add_replay
from skmars.cli._replay import run as replay
from skmars.cli._rollback import add_rollback
from skmars.cli._rollback import run as rollback
from skmars.cli._serve import add_serve
from skmars.cli._serve import run as serve
from skmars.cli._terminal import Interrupted, one_line_warnings, progress, signal_raises
from skmars.cli._trainer import add_trainer
from skmars.cli._trainer import run as trainer

# Exit codes that shells give programs ended by a signal: SIGINT, SIGPIPE.
INTERRUPTED, UNREAD = 128 + 2, 128 + 13

# Columns whose kinds are found in the tables.
TYPED = ("context", "attributes", "user_attributes")

# Errors whose message is enough; for any other, the type is printed as well.
SELF_EXPLANATORY = (ValueError, TypeError, OSError, ImportError, FloatingPointError, RuntimeError)


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
        stopped; of `runner`, `trainer` and `refit` also 75 if another one works, and 143 if it was
        asked to end; of `rollback` 75 if one of them works.

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
        ends = signal_raises(signal.SIGINT, Interrupted)
        with redirect_stdout(sys.stderr), one_line_warnings(program), ends:
            check(arguments)
            if arguments.modules:
                from skmars.persistence._modules import import_modules

                import_modules(arguments.modules)
            code: int | None = arguments.run(arguments, results)
        return code or 0
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
        description=texts.OVERVIEW,
        epilog=texts.EXAMPLES,
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
        sub.add_argument(
            "--import",
            dest="modules",
            metavar="MODULE",
            action="append",
            default=[],
            help="import a module first, in which classes of your own are registered",
        )
        return sub

    epilog = f"{texts.COLUMNS}\n\n{texts.FIT_EXAMPLES}"
    add.add_fit(command("fit", _fit, "learn a model from a log and items", epilog))

    epilog = f"{texts.ROWS}\n\n{texts.PREDICT_EXAMPLES}"
    add.add_rows(command("predict", _make_table, "predict the probability of clicks", epilog))
    what = "list the best items of each user"
    add.add_recommend(command("recommend", _make_table, what, texts.RECOMMEND_EXAMPLES))
    epilog = f"{texts.ROWS}\n\n{texts.EXPLAIN_EXAMPLES}"
    what = "list what rows borrow, from whom and why, or why nothing"
    add.add_explain(command("explain", _make_table, what, epilog))

    epilog = f"{texts.COLUMNS}\n\n{texts.COMPARE_EXAMPLES}"
    what = "compare simple models, DIN and MARS on a log, and say which one to use"
    add.add_compare(command("compare", _compare, what, epilog))

    epilog = texts.EVALUATE_EXAMPLES
    add.add_evaluate(command("evaluate", _make_table, "measure a model on a log", epilog))

    what = "bring a log into a store, and make the pool of donors of all events"
    add.add_runner(command("runner", _run_runner, what, texts.RUNNER_EXAMPLES))
    what = "fit the whole model anew to all events of a store, and let it take over"
    add_refit(command("refit", refit, what, texts.REFIT_EXAMPLES))
    what = "let the model learn from the events that come, and publish its parameters"
    add_trainer(command("trainer", trainer, what, texts.TRAINER_EXAMPLES))
    what = "go back to an earlier version of the parameters, the pool or the model"
    add_rollback(command("rollback", rollback, what, texts.ROLLBACK_EXAMPLES))
    what = "write the events of a store to a Parquet file, in order of arrival"
    add_export(command("export", export, what, texts.EXPORT_EXAMPLES))
    what = "answer requests for predictions over HTTP, and keep the events that it is told"
    add_serve(command("serve", serve, what, texts.SERVE_EXAMPLES))

    what = "score logged requests again, with the versions and events of then"
    add_replay(command("replay", replay, what, texts.REPLAY_EXAMPLES))
    return parser


# --- the commands ---------------------------------------------------------------------------


def _fit(arguments: argparse.Namespace, results: TextIO) -> None:
    from skmars.cli import _commands as commands
    from skmars.persistence import save

    try:
        pipeline = commands.make_pipeline(
            base=arguments.base,
            seed=arguments.seed,
            variant=arguments.variant,
            settings=arguments.set,
        )
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"--set: {error}") from error
    with progress(pipeline, quiet=arguments.quiet):
        model = commands.fit(
            arguments.log,
            arguments.items,
            pipeline,
            columns=_columns(arguments),
            holdout=arguments.holdout,
            split_at=arguments.split_at,
            negatives=arguments.negatives,
            seed=arguments.seed,
            users=arguments.user_table,
        )
    save(model, arguments.out)
    if not arguments.quiet:
        print(f"skmars fit: wrote {arguments.out}{_kinds(model.columns)}", file=sys.stderr)


def _kinds(columns: Any) -> str:
    """Say as what the columns were read whose kinds a CSV file does not tell."""
    told = []
    for name in TYPED:
        kinds = [f"{column} ({kind})" for column, kind in getattr(columns, name).items()]
        if kinds:
            told.append(f"{name.replace('_', ' ')} {', '.join(kinds)}")
    return f"; {'; '.join(told)}" if told else ""


def _compare(arguments: argparse.Namespace, results: TextIO) -> None:
    from skmars.cli import _commands as commands
    from skmars.cli._tables import write_table

    comparison = commands.compare(
        arguments.log,
        arguments.items,
        columns=_columns(arguments),
        users=arguments.user_table,
        without=arguments.without,
        negatives=arguments.negatives,
        split_at=arguments.split_at,
        seed=arguments.seed,
        quiet=arguments.quiet,
    )
    if arguments.out is not None:
        write_table(comparison.table, arguments.out)
    _print(f"{comparison}\n", results)


def _run_runner(arguments: argparse.Namespace, results: TextIO) -> int:
    from skmars.cli._runner import run

    return run(arguments)


def _columns(arguments: argparse.Namespace) -> Any:
    from skmars.persistence import Columns

    given = vars(arguments) | {name: dict.fromkeys(getattr(arguments, name)) for name in TYPED}
    return Columns(**{f.name: given[f.name] for f in fields(Columns) if f.name in given})


def _make_table(arguments: argparse.Namespace, results: TextIO) -> None:
    """Make the table of a command, and write it."""
    from skmars.cli import _commands as commands
    from skmars.cli import _scores as scores
    from skmars.cli._tables import csv_of, write_table
    from skmars.persistence._saved import load_model

    model = load_model(arguments.model)
    files = {"log": arguments.log, "items": arguments.items, "users": arguments.user_table}
    match arguments.command:
        case "evaluate":
            table = scores.evaluate(model, arguments.rows, holdout=arguments.holdout, **files)
        case "recommend":
            table = commands.recommend(
                model,
                arguments.users,
                user_ids=arguments.user_id,
                n=arguments.n,
                candidates=arguments.candidates,
                include_seen=arguments.include_seen,
                context=dict(arguments.context),
                **files,
            )
        case "predict":
            table = commands.predict(model, arguments.rows, **files)
        case "explain":
            table, words = commands.explain(model, arguments.rows, **files)
            if arguments.words:
                return _print(f"{words}\n", results)
    if arguments.out is not None:
        write_table(table, arguments.out)
    else:
        _print(csv_of(table), results)


def _print(text: str, results: TextIO) -> None:
    try:
        results.write(text)
        results.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output(results)
        raise OSError(f"stdout can't be written: {error.strerror}. Use --out FILE.") from error
