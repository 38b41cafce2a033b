"""Seconds, memory, and what the machine can do at best: what the speed benchmarks share."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
from threadpoolctl import threadpool_limits

T = TypeVar("T")

# Work of a part: useful arithmetic, or bytes that have to be read and written.
FLOPS, BYTES = "flop", "byte"

GEMM_SIZE, GEMM_TIMES = 1024, 4
COPY_BYTES, COPY_TIMES = 1 << 26, 4


@dataclass
class Result:
    """One contender in one part.

    Attributes
    ----------
    part, contender : str
    seconds : list of float
        One entry a repeat, in their order.
    peak_mb : list of float
        Largest resident memory of the process, where that was measured.
    size_mb : float or None
        Size of the data, where that is the question.
    share : float or None
        Work a second, divided by what the machine does (sgemm or copy, measured in each round).
    share_of : {"flop", "byte"} or None
    note : str
    """

    part: str
    contender: str
    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    size_mb: float | None = None
    share: float | None = None
    share_of: str | None = None
    note: str = ""


def sgemm_rate() -> float:
    """Return floating-point operations a second of a float32 matrix product."""
    import torch

    a, b = torch.rand(GEMM_SIZE, GEMM_SIZE), torch.rand(GEMM_SIZE, GEMM_SIZE)
    out = a @ b
    begin = time.perf_counter()
    for _ in range(GEMM_TIMES):
        torch.mm(a, b, out=out)
    return GEMM_TIMES * 2 * GEMM_SIZE**3 / (time.perf_counter() - begin)


def copy_rate() -> float:
    """Return bytes a second, read and written, of copying an array that fits no cache."""
    import torch

    source = torch.zeros(COPY_BYTES, dtype=torch.uint8)
    target = source.clone()
    begin = time.perf_counter()
    for _ in range(COPY_TIMES):
        target.copy_(source)
    return COPY_TIMES * 2 * COPY_BYTES / (time.perf_counter() - begin)


def compare(
    part: str,
    contenders: Mapping[str, Callable[[], Any]],
    repeats: int,
    *,
    work: float | Mapping[str, float] | None = None,
    work_of: str = FLOPS,
    before: Callable[[], Any] | None = None,
) -> list[Result]:
    """Time contenders in alternation: all of them once, then all of them again.

    Whatever else the machine does in the meantime then strikes all alike.

    Parameters
    ----------
    part : str
    contenders : mapping of str to callable
    repeats : int
    work : float, mapping of str to float, or None
        Useful work of a call. One number for all: a contender that does more wastes it.
    work_of : {"flop", "byte"}
    before : callable or None
        Called before each round, which is not timed.
    """
    results = {name: Result(part, name) for name in contenders}
    rates = []
    for _ in range(repeats):
        if before is not None:
            before()
        if work is not None:
            rates.append(sgemm_rate() if work_of == FLOPS else copy_rate())
        for name, call in contenders.items():
            begin = time.perf_counter()
            call()
            results[name].seconds.append(time.perf_counter() - begin)
    for name, result in results.items():
        if work is None:
            break
        needed = work if isinstance(work, float) else work[name]
        result.share = needed / median(result.seconds) / median(rates)
        result.share_of = work_of
    return list(results.values())


def chosen(known: Mapping[str, T], names: Sequence[str] | None) -> dict[str, T]:
    """Return the contenders that run: all, or those of these names."""
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise SystemExit(f"no contender {unknown[0]!r}; there are: {'; '.join(known)}")
    return {name: known[name] for name in names or known}


def _compute() -> None:
    while True:
        pass


@contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """Let `n` other processes compute all the time, each on a core that the system gives it."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_compute, daemon=True) for _ in range(n)]
    for process in processes:
        process.start()
    if processes:
        time.sleep(1.0)  # until they have begun
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Give all libraries of this process, and its children, `n` threads."""
    import torch

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with patch.dict(os.environ, dict.fromkeys(names, str(n))), threadpool_limits(n):
            yield
    finally:
        torch.set_num_threads(before)


def peak_mb() -> float:
    """Return the largest resident memory of this process so far."""
    try:
        # Not `getrusage`: on Linux a child begins with the peak of the process that started it.
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def reset_peak() -> None:
    """Let `peak_mb` begin anew from what is in use now, where the system can (Linux)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def in_process(module: str, *arguments: str, limit: float | None = None) -> dict[str, Any] | None:
    """Run ``python -m module arguments`` and read the JSON of its last line.

    None if it takes longer than `limit` seconds.

    Raises
    ------
    RuntimeError
        If it fails; the message is the end of what it wrote.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    import platform

    import sklearn
    import torch

    import skmars

    return {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "sgemm_gflops": round(sgemm_rate() / 1e9, 1),
        "copy_gb_per_s": round(copy_rate() / 1e9, 1),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "sklearn": sklearn.__version__,
            "skmars": skmars.__version__,
        },
    }


def _processor() -> str:
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
        return names[0]
    except (OSError, IndexError):
        return platform.processor()


def table(results: list[Result]) -> str:
    """Return the results as one Markdown table; ratios are to the first contender of a part."""
    lines = ["| part | contender | median | spread | ratio | of the machine | memory, MB | note |"]
    lines.append("|" + "---|" * 8)
    first: dict[str, Result] = {}
    for r in results:
        base = first.setdefault(r.part, r)
        middle = spread = ratio = ""
        if r.seconds:
            middle = _seconds(median(r.seconds))
            spread = f"{_seconds(min(r.seconds))} to {_seconds(max(r.seconds))}"
            if base.seconds:
                ratio = f"{median(r.seconds) / median(base.seconds):.2f}"
        share = ""
        if r.share is not None:
            share = f"{100 * r.share:.1f} % of {'sgemm' if r.share_of == FLOPS else 'copy'}"
        memory = "" if r.size_mb is None else f"{r.size_mb:,.1f}"
        if r.peak_mb:
            memory = f"{median(r.peak_mb):,.0f} (peak)"
        cells = [r.part, r.contender, middle, spread, ratio, share, memory, r.note]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"
