"""What does a second thread bring DIN, on free cores and beside a process that keeps one busy?

    python -m benchmarks.threads                        # synthetic data
    python -m benchmarks.threads --data toys path/to/toys.txt
    python -m benchmarks.threads --data ml-1m path/to/ml-1m --rows 40000 --repeats 5
    python -m benchmarks.threads --reference            # without compiled code

An epoch of training and the prediction of all rows, with one thread and with two in turn; then the
same beside a process that multiplies numbers all the time. Speed-up is seconds with one thread
divided by seconds with two, in the same round: the median of the rounds, lowest and highest.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

from benchmarks.interactions import load
from benchmarks.measure import busy_processes, machine
from benchmarks.parts.networks import Settings, make


def rounds(contender: Any, n_repeats: int) -> dict[str, list[list[float]]]:
    """Return the seconds of training and of prediction: of each round, with one and two threads."""
    import torch

    found: dict[str, list[list[float]]] = {"training": [], "prediction": []}
    for _ in range(n_repeats + 1):
        seconds: dict[str, list[float]] = {"training": [], "prediction": []}
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            for name, call in (("training", contender.train), ("prediction", contender.predict)):
                begin = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - begin)
        for name, pair in seconds.items():
            found[name].append(pair)
    return {name: pairs[1:] for name, pairs in found.items()}  # the first one warms up


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", nargs=2, metavar=("KIND", "PATH"), help="toys FILE, ml-1m FOLDER")
    parser.add_argument("--rows", type=int, help="about so many rows only")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--reference", action="store_true", help="PyTorch alone")
    arguments = parser.parse_args()
    if arguments.reference:
        from skmars.ctr import _kernel

        _kernel.library = lambda: None
    name, X, y = load(arguments.data, arguments.rows, mean_length=40.0, sigma=1.0)
    print(machine(), flush=True)
    print(f"{name}: {X!r}", flush=True)
    contender = make("skmars", X, y, Settings(len(X.catalog), 200, arguments.batch_size, 0))
    print(
        "| data | work | beside | one thread, s | two threads, s | speed-up | lowest to highest |"
    )
    print("|---|---|---|---|---|---|---|")
    for is_busy in (False, True):
        with busy_processes(int(is_busy)):
            for work, pairs in rounds(contender, arguments.repeats).items():
                one, two = (median(p[i] for p in pairs) for i in (0, 1))
                ratios = sorted(p[0] / p[1] for p in pairs)
                beside = "a busy process" if is_busy else "nothing"
                print(
                    f"| {name} | {work} | {beside} | {one:.2f} | {two:.2f} | "
                    f"{median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
