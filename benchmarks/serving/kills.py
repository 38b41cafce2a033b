"""Kill what a deployment consists of, and look whether anything is lost, counted twice or left.

    python -m benchmarks.serving.kills --what service runner --kills 100 --folder /tmp/kills

Each is killed (SIGKILL) at random moments, which are drawn from the number of the kill, so many
times. With `--folder`, a call that was interrupted goes on where it was. What is checked:

writers    a process appends batches of events to LMDB, half of each repeated, and writes down what
           was acknowledged. After each kill all of that is there, no event is there twice, and
           histories, stream, item numbers and positions agree
redis      the server (``appendfsync always``) under a process that goes on writing: the same
service    events are posted, half of them repeated, and scores asked for: the same, each score
           knows what was acknowledged before, and the service that is begun anew answers. Some
           are killed while they begin; of some with two workers, the process that watches them
runner     the log grows and events are streamed: after each kill the current pool can be read, and
           in the end it is the one that the library makes of all events, to the bit
trainer    the same events as an undisturbed one: it ends with the same parameters, to the bit

Printed are the kills, the events that were acknowledged (or learnt), the seconds until what was
begun anew worked (median and longest), and how many files there are besides the store. That
the disk of a machine without power keeps what it has synced is not tested.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.serving.killed_commands import COMMANDS
from benchmarks.serving.killed_stores import Kill, kill_servers, kill_writers
from tests.serving.servers import RedisServer

WHAT = ("writers", "redis", *COMMANDS)


def kill_all(what: str, folder: Path, kills: int, first: int = 0) -> Iterator[Kill]:
    """Kill what has this name, from the kill `first` on, in a folder that is its own."""
    folder.mkdir(parents=True, exist_ok=True)
    if what == "writers":
        yield from kill_writers(f"lmdb:{folder / 'store'}", folder, kills, first)
    elif what == "redis":
        with RedisServer(folder) as server:
            yield from kill_servers(server, folder, kills, first)
    else:
        yield from COMMANDS[what](folder, kills, first)


def main() -> None:
    """Kill, look, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)
    parser.add_argument("--kills", type=int, default=100, help="of each kind (default 100)")
    parser.add_argument("--folder", type=Path, help="stays, so that the same call goes on there")
    arguments = parser.parse_args()
    with nullcontext(arguments.folder) if arguments.folder else TemporaryDirectory() as folder:
        row = "{:10} {:>6,} {:>13,} {:>7.1f} {:>8.1f} {:>6,}"
        print("killed      kills  acknowledged  median  longest  files")
        for what in arguments.what:
            kills = [Kill(**kill) for kill in logged(Path(folder) / f"{what}.jsonl")]
            for kill in kill_all(what, Path(folder) / what, arguments.kills, len(kills)):
                kills.append(kill)
                with (Path(folder) / f"{what}.jsonl").open("a") as log:
                    log.write(json.dumps(vars(kill)) + "\n")
            seconds = [kill.seconds for kill in kills if kill.seconds is not None]
            last, median = kills[-1], float(np.median(seconds))
            told = what, len(kills), last.acknowledged, median, max(seconds), last.files
            print(row.format(*told), flush=True)


def logged(path: Path) -> list[dict[str, Any]]:
    """Return what earlier calls found."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
