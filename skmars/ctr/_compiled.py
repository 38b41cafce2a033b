"""Perceptrons with Dice, and attention by them, in compiled code on all threads.

The same functions as the layers of `skmars.ctr._layers`, whose order of sums is another: results
agree up to rounding. The number of threads changes no bit. Imports torch: import it lazily.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
    parameters = [*layers.weights, *layers.biases, *layers.alphas]
    output, *statistics = _Compiled.apply(layers, weight, histories, table, query, *parameters)
    n = len(layers.alphas)
    return Result(output, statistics[:n], statistics[n:])


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layers, weight, histories, table, query, *parameters):  # type: ignore[no-untyped-def, override]
        table = table.contiguous()
        parameters = tuple(p.contiguous() for p in parameters)
        widths = [len(alpha) for alpha in layers.alphas]
        numbers = {
            "n_rows": len(table) if query is None else len(query),
            "n_inputs": table.shape[1],
            "n_layers": len(widths),
            "n_table": len(table),
            "eps": layers.eps,
        }
        rows = {
            "widths": torch.tensor(widths),
            "table": table,
            "row_weight": None if weight is None else weight.contiguous(),
        }
        n = len(table)
        if query is not None:
            rows |= {"query": query.contiguous(), "at": histories.at, "start": histories.start}
            rows["offset"] = F.pad(torch.cumsum(histories.length, 0), (1, 0))
            n = int(rows["offset"][-1])
        is_training = layers.statistics is None
        means, variances = layers.statistics or (
            [torch.empty_like(alpha) for alpha in layers.alphas] for _ in range(2)
        )
        if query is None or is_training:
            rows["score"] = table.new_empty((n, 1))
        if query is not None:
            rows["pooled"] = torch.zeros_like(rows["query"])
        if is_training:
            kept = widths if query is None else widths[1:]
            rows["hidden"] = table.new_empty(n * sum(map(_kernel.padded, kept)))
        lists = {**_grouped(parameters), "mean": means, "variance": variances}
        with one_thread_each() as numbers["n_threads"]:
            name = "train" if is_training else "predict"
            _kernel.call(name, layers.group, numbers, rows, lists)
        # Whoever keeps its own output is never freed.
        output = rows.pop("score" if query is None else "pooled")
        if not is_training:
            return (output,)
        ctx.group, ctx.numbers, ctx.rows, ctx.lists = layers.group, numbers, rows, lists
        ctx.mark_non_differentiable(*means, *variances)
        return output, *means, *variances

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_output, *_):  # type: ignore[no-untyped-def, override]
        rows, lists = ctx.rows, ctx.lists
        is_plain = "query" not in rows
        gradients = {f"d_{name}": [*map(torch.empty_like, lists[name])] for name in _PARAMETERS}
        d_rows = {
            "d_table": torch.empty_like(rows["table"]),
            "d_query": None if is_plain else torch.zeros_like(rows["query"]),
            "d_score" if is_plain else "d_pooled": d_output.contiguous(),
        }
        with one_thread_each() as ctx.numbers["n_threads"]:
            _kernel.call("backward", ctx.group, ctx.numbers, rows | d_rows, lists | gradients)
        d_parameters = [each for group in gradients.values() for each in group]
        return None, None, None, d_rows["d_table"], d_rows["d_query"], *d_parameters


_PARAMETERS = ("weight", "bias", "alpha")


def _grouped(parameters: Sequence[Tensor]) -> dict[str, Sequence[Tensor]]:
    """Matrices and biases of L + 1 layers, and alphas of L."""
    n = (len(parameters) + 1) // 3
    return dict(zip(_PARAMETERS, (parameters[:n], parameters[n : 2 * n], parameters[2 * n :])))
