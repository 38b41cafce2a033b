"""Perceptrons with Dice, and attention by them, in compiled code on all threads.

The same functions as the layers of `skmars.ctr._layers`, whose order of sums is another: results
agree up to rounding. The number of threads changes no bit. Imports torch: import it lazily.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from skmars.ctr import _kernel
from skmars.utils._threads import one_thread_each
from skmars.utils._worker_group import WorkerGroup


class Layers(NamedTuple):
    """The parameters of a perceptron: matrices and biases of all layers, the output last, and Dice.

    `statistics` are means and variances of the hidden layers, where they are known; else they are
    those of the batch, parts of which the processes of a `group` may have.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    alphas: Sequence[Tensor]
    eps: float
    statistics: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None
    group: WorkerGroup | None = None


class Histories(NamedTuple):
    """The keys of each row: `length` of them from `start` on.

    They are rows of `table`, of which `at` names that of each position; None where they stand there
    in order.
    """

    table: Tensor
    at: Tensor | None
    start: Tensor
    length: Tensor


class Result(NamedTuple):
    """Scores of shape (n, 1) or pooled keys, and the statistics of each hidden layer."""

    output: Tensor
    means: Sequence[Tensor]
    variances: Sequence[Tensor]


def can_run(layers: Layers, x: Tensor) -> bool:
    """Whether the compiled code is there, and takes these layers and this input."""
    return (
        x.device.type == "cpu"
        and x.dtype == layers.biases[0].dtype == torch.float32
        and len(layers.biases[-1]) == 1
        and not (layers.statistics and torch.is_grad_enabled())
        and _kernel.library() is not None
    )


def perceptron(x: Tensor, layers: Layers, weight: Tensor | None = None) -> Result:
    """Score the rows of a matrix.

    `weight` of shape (n,) says how often a row counts in the statistics.
    """
    return _run(layers, weight, None, x, None)


def attention(
    query: Tensor, histories: Histories, layers: Layers, weight: Tensor | None = None
) -> Result:
    """Sum the keys of each row, weighed by their scores.

    The first matrix is that of ``[k, q * k, q]``.
    """
    return _run(layers, weight, histories, histories.table, query)


def _run(
    layers: Layers,
    weight: Tensor | None,
    histories: Histories | None,
    table: Tensor,
    query: Tensor | None,
) -> Result:
    _check(layers, weight, histories, table, query)
    parameters = [*layers.weights, *layers.biases, *layers.alphas]
    output, *statistics = _Compiled.apply(layers, weight, histories, table, query, *parameters)
    n = len(layers.alphas)
    return Result(output, statistics[:n], statistics[n:])


def _check(
    layers: Layers,
    weight: Tensor | None,
    histories: Histories | None,
    table: Tensor,
    query: Tensor | None,
) -> None:
    """Raise ValueError where compiled code would read or write beyond the end of a tensor."""
    width, n_rows = table.shape[1], len(table) if query is None else len(query)
    units = [*map(len, layers.alphas), 1]
    widths = [width if query is None else 3 * width, *units]
    found = [tuple(matrix.shape) for matrix in layers.weights]
    if found != list(zip(units, widths)):
        raise ValueError(
            f"the layers have matrices of shapes {found}, not {list(zip(units, widths))}."
        )
    vectors = [layers.biases[:-1], *(layers.statistics or ())]
    if any([*map(len, each)] != units[:-1] for each in vectors):
        raise ValueError(f"biases and statistics have other widths than the layers, {units}.")
    if weight is not None and weight.shape != (n_rows,):
        raise ValueError(f"weight has shape {tuple(weight.shape)}, but there are {n_rows} rows.")
    if query is None or histories is None:
        return
    if query.shape[1] != width:
        raise ValueError(f"query has {query.shape[1]} columns, but key has {width}.")
    start, length, at = histories.start, histories.length, histories.at
    if not len(start) == len(length) == n_rows:
        raise ValueError(f"{len(length)} rows have a length, but there are {n_rows} rows.")
    n_positions = len(table) if at is None else len(at)
    if n_rows and not (
        min(int(start.min()), int(length.min())) >= 0 and int((start + length).max()) <= n_positions
    ):
        raise ValueError(f"length names positions that are not there; there are {n_positions}.")
    if at is not None and len(at) and not 0 <= int(at.min()) <= int(at.max()) < len(table):
        raise ValueError(f"at names keys that are not there; there are {len(table)}.")


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layers, weight, histories, table, query, *parameters):  # type: ignore[no-untyped-def, override]
        lists = _grouped([_floats(p) for p in parameters])
        widths = [len(alpha) for alpha in layers.alphas]
        rows: dict[str, Any] = {"table": _floats(table)}
        rows["row_weight"] = None if weight is None else _floats(weight)
        numbers = {
            "n_rows": len(table) if query is None else len(query),
            "n_inputs": table.shape[1],
            "n_layers": len(widths),
            "n_table": len(table),
            "eps": layers.eps,
        }
        rows["widths"] = torch.tensor(widths)
        n = len(table)
        if query is not None:
            rows |= {"query": _floats(query), "start": _integers(histories.start)}
            rows["at"] = None if histories.at is None else _integers(histories.at)
            rows["offset"] = F.pad(torch.cumsum(_integers(histories.length), 0), (1, 0))
            n = int(rows["offset"][-1])
        is_training = layers.statistics is None
        if is_training:
            means, variances = ([*map(torch.empty_like, lists["alpha"])] for _ in range(2))
        else:
            means, variances = ([*map(_floats, known)] for known in layers.statistics)
        if query is None or is_training:
            rows["score"] = rows["table"].new_empty((n, 1))
        if query is not None:
            rows["pooled"] = torch.zeros_like(rows["query"])
        if is_training:
            kept = widths if query is None else widths[1:]
            rows["hidden"] = rows["table"].new_empty(n * sum(map(_kernel.padded, kept)))
        lists |= {"mean": means, "variance": variances}
        with one_thread_each() as numbers["n_threads"]:
            name = "train" if is_training else "predict"
            _kernel.call(name, layers.group, numbers, rows, lists)
        # Whoever keeps its own output is never freed.
        output = rows.pop("score" if query is None else "pooled")
        if not is_training:
            return (output,)
        ctx.group, ctx.numbers = layers.group, numbers
        # Autograd frees what it keeps after use, and notices if that is changed before.
        ctx.rows, ctx.lists = list(rows), {name: len(each) for name, each in lists.items()}
        ctx.save_for_backward(*rows.values(), *(t for each in lists.values() for t in each))
        ctx.mark_non_differentiable(*means, *variances)
        return output, *means, *variances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_output, *_):  # type: ignore[no-untyped-def, override]
        saved = iter(ctx.saved_tensors)
        rows = {name: next(saved) for name in ctx.rows}
        lists = {name: [next(saved) for _ in range(n)] for name, n in ctx.lists.items()}
        is_plain = "query" not in rows
        gradients = {f"d_{name}": [*map(torch.empty_like, lists[name])] for name in _PARAMETERS}
        d_rows = {
            "d_table": torch.empty_like(rows["table"]),
            "d_query": None if is_plain else torch.zeros_like(rows["query"]),
            "d_score" if is_plain else "d_pooled": _floats(d_output),
        }
        with one_thread_each() as ctx.numbers["n_threads"]:
            _kernel.call("backward", ctx.group, ctx.numbers, rows | d_rows, lists | gradients)
        d_parameters = [each for group in gradients.values() for each in group]
        return None, None, None, d_rows["d_table"], d_rows["d_query"], *d_parameters


def _floats(values: Tensor) -> Tensor:
    """Return values as compiled code reads them."""
    return values.to(torch.float32).contiguous()


def _integers(values: Tensor) -> Tensor:
    return values.to(torch.int64).contiguous()


_PARAMETERS = ("weight", "bias", "alpha")


def _grouped(parameters: Sequence[Tensor]) -> dict[str, Sequence[Tensor]]:
    """Matrices and biases of L + 1 layers, and alphas of L."""
    n = (len(parameters) + 1) // 3
    return dict(zip(_PARAMETERS, (parameters[:n], parameters[n : 2 * n], parameters[2 * n :])))
