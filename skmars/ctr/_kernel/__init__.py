"""The compiled perceptron: built with the package where there is a compiler, else not there.

Its reference is `skmars.ctr._layers`, which takes its place. Imports torch: import it lazily.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from numpy.ctypeslib import as_array
from torch import Tensor

from skmars.utils._worker_group import WorkerGroup

# Of the compiled files, which instructions they need, as torch names them.
FILES = {"AVX512": "perceptron-x86-64-v4.so", "AVX2": "perceptron-x86-64-v3.so"}

_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_int64
_SUM = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_double), _NUMBER)


class Perceptron(ctypes.Structure):
    """What the compiled functions read; see `perceptron.cpp`."""

    _fields_ = [
        *((name, _NUMBER) for name in ("n_rows", "n_inputs", "n_layers", "n_threads")),
        *((name, _POINTER) for name in ("widths", "start", "offset", "query", "table", "at")),
        ("row_weight", _POINTER),
        *((name, _POINTER) for name in ("weight", "bias", "alpha", "mean", "variance")),
        ("eps", ctypes.c_double),
        *((name, _POINTER) for name in ("hidden", "score", "pooled", "d_score", "d_pooled")),
        *((name, _POINTER) for name in ("d_weight", "d_bias", "d_alpha", "d_query", "d_table")),
        ("n_table", _NUMBER),
        ("sum_over_processes", _SUM),
    ]


@cache
def library() -> Any:
    """Return the compiled functions; None where they were not built, or can't run here."""
    name = FILES.get(torch.backends.cpu.get_cpu_capability(), "perceptron-native.so")
    file = Path(__file__).with_name(name)
    try:
        found = ctypes.CDLL(str(file)) if file.exists() else None
        # Files that were built from an older source read other fields.
        fits = found is not None and found.skmars_fields() == ctypes.sizeof(Perceptron)
    except (OSError, AttributeError) as error:
        fits, reason = False, str(error)
    else:
        reason = "it was built from another version"
    if file.exists() and not fits:
        warnings.warn(
            f"{file} can't be used ({reason}); training is slower without. Build it again: "
            f"python {file.with_name('build.py')}",
            stacklevel=2,
        )
    return found if fits else None


def padded(width: int) -> int:
    """Return a number of columns, rounded up to whole vectors."""
    lanes: int = library().skmars_lanes()
    return -(-width // lanes) * lanes


def call(
    name: str,
    group: WorkerGroup | None,
    numbers: Mapping[str, float],
    tensors: Mapping[str, Tensor | None],
    lists: Mapping[str, Sequence[Tensor]],
) -> None:
    """Call a compiled function.

    Parameters
    ----------
    name : {"train", "predict", "backward"}
    group : WorkerGroup or None
        Processes that have the rows of a batch together.
    numbers, tensors, lists : mapping of str to number, (Tensor or None), sequence of Tensor
        The fields of `Perceptron`; None and what is not given are null. Tensors are C-contiguous,
        of float32 or int64.
    """
    fields = Perceptron(**numbers)
    for field, tensor in tensors.items():
        if tensor is not None:
            setattr(fields, field, tensor.data_ptr())
    kept = [(_POINTER * len(each))(*[t.data_ptr() for t in each]) for each in lists.values()]
    for field, pointers in zip(lists, kept):
        setattr(fields, field, ctypes.addressof(pointers))
    errors: list[BaseException] = []
    if group is not None:

        def sum_over_processes(numbers: Any, n: int) -> None:
            if errors:
                return
            try:
                array = torch.from_numpy(as_array(numbers, (n,)))
                array.copy_(group.sum_(array.clone()))
            except BaseException as error:  # which compiled code can't hand on
                errors.append(error)

        fields.sum_over_processes = _SUM(sum_over_processes)
    has_memory = getattr(library(), f"skmars_{name}")(ctypes.byref(fields))
    if errors:
        raise errors[0]
    if not has_memory:
        raise MemoryError("there is no memory for a batch this large. Set a smaller batch_size.")
