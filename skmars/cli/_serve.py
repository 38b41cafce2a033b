"""The command `skmars serve`: its arguments, and who may ask the service."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TextIO

from skmars.cli._arguments import add_deployment, integer, number

TOKEN = "SKMARS_TOKEN"  # environment variable


def add_serve(sub: argparse.ArgumentParser) -> None:
    """Add the arguments of `skmars serve`."""
    add_deployment(sub)
    group = sub.add_argument_group("address")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen to (default: 127.0.0.1, which only this machine reaches)",
    )
    group.add_argument(
        "--port", type=integer(0, 65535), default=8000, help="0 takes a free one (default: 8000)"
    )
    who = group.add_mutually_exclusive_group()
    who.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help=f"holds the token that requests need (or the environment variable {TOKEN})",
    )
    who.add_argument(
        "--no-token", action="store_true", help="let everybody ask who reaches the address"
    )
    group = sub.add_argument_group("work")
    group.add_argument(
        "--workers", metavar="K", type=integer(1, 256), default=1, help="processes (default: 1)"
    )
    group.add_argument(
        "--queue",
        metavar="N",
        type=integer(1, 100_000),
        default=256,
        help="requests that may wait in each process; the next gets status 429 (default: 256)",
    )
    group.add_argument(
        "--store-deadline",
        metavar="SECONDS",
        type=seconds,
        default=0.05,
        help="how long scoring waits for the store, before it takes what it knows (default: 0.05)",
    )
    group = sub.add_argument_group("logs")
    group.add_argument("--access-log", action="store_true", help="a line a request, on stderr")
    group.add_argument(
        "--log-scores",
        metavar="FILE",
        type=Path,
        help="write scored requests, for `skmars replay`",
    )
    group.add_argument(
        "--log-share",
        metavar="SHARE",
        type=share,
        default=0.01,
        help="share of the scored requests that --log-scores writes (default: 0.01)",
    )


def seconds(text: str) -> float:
    if 0.001 <= (value := number(text)) <= 60:
        return value
    raise argparse.ArgumentTypeError(f"write seconds from 0.001 to 60, got {text!r}")


def share(text: str) -> float:
    if 0 < (value := number(text)) <= 1:
        return value
    raise argparse.ArgumentTypeError(f"write a share above 0, up to 1; got {text!r}")


def run(arguments: argparse.Namespace, results: TextIO) -> None:
    """Run the service until it is asked to end."""
    token = find_token(arguments)  # before anything heavy is imported
    try:
        from skmars.serving.service._server import Settings, serve

        serve(
            Settings(
                model=arguments.model,
                store=arguments.store,
                host=arguments.host,
                port=arguments.port,
                workers=arguments.workers,
                token=token,
                queue=arguments.queue,
                deadline=arguments.store_deadline,
                access_log=arguments.access_log,
                log_scores=arguments.log_scores,
                log_share=arguments.log_share,
                modules=tuple(arguments.modules),
            )
        )
    except ModuleNotFoundError as error:
        raise ImportError(
            f"`skmars serve` needs the package {error.name}: pip install 'skmars[serving]'."
        ) from error


def find_token(arguments: argparse.Namespace) -> str | None:
    """Return the token that requests need, None if they need none.

    Raises
    ------
    argparse.ArgumentTypeError
        If others than this machine could ask without a token, and nobody said that they may.
    OSError, ValueError
        If the file of the token can't be read, or holds none.
    """
    if arguments.no_token:
        return None
    if arguments.token_file is not None:
        try:
            text = arguments.token_file.read_text()
        except OSError as error:
            raise OSError(
                f"--token-file {arguments.token_file} can't be read: {error.strerror}. Name a file "
                "that holds the token."
            ) from error
        return _checked(text, f"{arguments.token_file}")
    if TOKEN in os.environ:
        return _checked(os.environ[TOKEN], f"the environment variable {TOKEN}")
    if not is_loopback(arguments.host):
        raise argparse.ArgumentTypeError(
            f"--host {arguments.host} lets other machines ask. Give a token (--token-file FILE, or "
            f"the environment variable {TOKEN}), or say --no-token if all of them may."
        )
    return None


def _checked(text: str, source: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"{source} must hold one token: ASCII characters without spaces. Make one, for "
            "example with `openssl rand -hex 32`."
        )
    return token


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, which may be anybody's
        return False
