"""One batch through the network and back, part by part on threads of our own.

What positions read of their items is computed for blocks of items; then each part of the sequences
is taken through the network by whichever thread is free. On the way back, the gradients of parts
are added up in the order of the parts. Blocks and parts do not depend on the number of threads, and
every operator uses one: a batch gives the same bits on any number of threads. A part is small
enough for the cache, and its graph is gone when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skmars.alignment._items import ItemFeatures
from skmars.alignment._network import AlignmentNetwork, States, prefix_means
from skmars.alignment._packing import PART_POSITIONS, PackedSequences, Part
from skmars.alignment._workers import Run

# From the log-odds of some rows, and these rows of the batch, to their part of the loss.
RowLoss = Callable[[Tensor, NDArray[np.int64]], Tensor]
# From the projections of the batch's items, and who has each modality, to a loss.
ItemLoss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
Gradients = list[Tensor | None]


@dataclass(frozen=True)
class _Graph:
    """What went into a computation, and what came out."""

    leaves: States
    outputs: States

    def back(
        self, parameters: Sequence[Tensor], at_outputs: States | None = None
    ) -> tuple[States, Gradients]:
        """Return the gradients at the leaves and at parameters, given those at the outputs.

        An output without a gradient plays no part. Without any given, the only output is a loss.
        """
        names = list(self.leaves)
        known = self.outputs.keys() if at_outputs is None else at_outputs.keys()
        outputs = [self.outputs[name] for name in known]
        given = None if at_outputs is None else list(at_outputs.values())
        wanted = [*self.leaves.values(), *parameters]
        found = torch.autograd.grad(outputs, wanted, given, allow_unused=True)
        at_leaves = {name: g for name, g in zip(names, found) if g is not None}
        return at_leaves, list(found[len(names) :])


class BatchPass:
    """The way of one batch through the network; `run` does its tasks.

    In training, the random numbers of dropout are drawn when it is made. `target` says which of
    the single items each row's target is, where these are what users are compared with.
    """

    def __init__(
        self,
        network: AlignmentNetwork,
        items: ItemFeatures,
        sequences: PackedSequences,
        run: Run,
        target: Tensor | None = None,
    ) -> None:
        self._network, self._items, self._sequences = network, items, sequences
        self._run, self._target = run, target
        self._device, n_items = items.ids.device, len(items.ids)
        self._drawn = network.draw(n_items, len(sequences.item), self._device)
        self._of_items = {name for name in self._drawn if name == "id" or "content" in name}
        size = PART_POSITIONS if self._device.type == "cpu" else max(n_items, 1)
        self._blocks = [slice(i, min(i + size, n_items)) for i in range(0, n_items, size)]

    # --- without gradients ----------------------------------------------------------------

    @torch.no_grad()
    def singles(self) -> Tensor:
        """Return the embeddings of the single items, shape (n_singles, n_components)."""
        return self._embed_singles(self._states())

    @torch.no_grad()
    def users(self) -> Tensor:
        """Return the user embedding of each row, shape (n_rows, n_components)."""
        states = self._states()

        def embed(part: Part) -> Tensor:
            embedding = self._encode(self._read(states, part), part)
            return prefix_means(embedding, part.end, part.length)

        return self._of_rows(embed, self._network.n_components)

    @torch.no_grad()
    def log_odds(self) -> Tensor:
        """Return the log-odds of a click of each row, shape (n_rows,)."""
        states = self._states()
        singles = self._embed_singles(states)

        def score(part: Part) -> Tensor:
            embedding = self._encode(self._read(states, part), part)
            return self._score(embedding, part, self._shown(singles, part))

        return self._of_rows(score)

    def _states(self) -> States:
        """Return what positions read of their items."""

        def block(rows: slice) -> States:
            items = self._items.projected(self._network, rows)
            ids = self._network.id_embedding.weight[items.ids]
            return self._network.item_states(items, ids, self._drawn_for(rows, of_items=True))

        return _joined(self._map(block, self._blocks))

    def _embed_singles(self, states: States) -> Tensor:
        found = self._map(
            lambda part: self._encode(self._read(states, part), part), self._sequences.singles
        )
        return self._concatenated(found)

    def _of_rows(self, read: Callable[[Part], Tensor], *width: int) -> Tensor:
        parts = self._sequences.parts
        weight = self._network.id_embedding.weight
        result = weight.new_zeros((self._sequences.n_rows, *width))
        for part, rows in zip(parts, self._map(read, parts)):
            result[torch.from_numpy(part.row).to(self._device)] = rows
        return result

    def _map(self, of: Callable[..., Tensor | States], each: Iterable[Any]) -> list[Any]:
        def quietly(x: object) -> Tensor | States:
            with torch.no_grad():  # a thread has a mode of its own
                return of(x)

        return self._ordered([partial(quietly, x) for x in each])

    # --- with gradients -------------------------------------------------------------------

    @torch.enable_grad()
    def gradients(
        self, row_loss: RowLoss, item_loss: ItemLoss | None, parameters: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the loss, and its gradient at each parameter.

        The loss is the sum of `row_loss` over the parts' rows, and `item_loss`.
        """
        network, sequences = self._network, self._sequences
        table = network.id_embedding.weight
        others = [p for p in parameters if p is not table]
        blocks = self._ordered([partial(self._item_graph, rows) for rows in self._blocks])
        made = _joined([{k: x.detach() for k, x in block.outputs.items()} for block in blocks])
        projected = {name: made.pop(name) for name in _projected_names(network)}
        tasks: list[Callable[[], _Graph]] = [
            partial(self._single_graph, made, part) for part in sequences.singles
        ]
        if item_loss is not None:
            tasks.append(partial(self._item_loss_graph, projected, item_loss))
        graphs = self._ordered(tasks)
        of_items = graphs.pop() if item_loss is not None else None
        singles = self._concatenated([graph.outputs["single"].detach() for graph in graphs])
        # The graph of rows is made and used up part by part: it is the largest.
        back = partial(self._back_from_rows, made, singles, row_loss, others)
        done = self._ordered([partial(back, part) for part in sequences.parts])
        loss = torch.stack([value for value, *_ in done]).sum()
        read = [(part, at_leaves) for part, (_, at_leaves, _) in zip(sequences.parts, done)]
        found = [at_parameters for *_, at_parameters in done]
        at_singles = torch.zeros_like(singles)
        for part, at_leaves in read:
            if "shown" in at_leaves:
                at_singles.index_add_(0, self._target_of(part), at_leaves.pop("shown"))
        backs = [
            partial(graph.back, others, {"single": at_singles[part.positions]})
            for part, graph in zip(sequences.singles, graphs)
        ]
        for part, (at_leaves, at_parameters) in zip(sequences.singles, self._ordered(backs)):
            read.append((part, at_leaves))
            found.append(at_parameters)
        at_made = dict(
            zip(made, self._ordered([partial(self._at_state, made, name, read) for name in made]))
        )
        if of_items is not None:
            loss = loss + of_items.outputs["loss"].detach()
            at_made |= of_items.back([])[0]
        backs = [
            partial(block.back, others, {name: g[rows] for name, g in at_made.items()})
            for block, rows in zip(blocks, self._blocks)
        ]
        back_from_items = self._ordered(backs)
        found += [at_parameters for _, at_parameters in back_from_items]
        sums = self._ordered([partial(_sum_of, found, k, p) for k, p in enumerate(others)])
        totals = dict(zip(map(id, others), sums))
        at_ids = torch.cat([at_leaves["ids"] for at_leaves, _ in back_from_items])
        totals[id(table)] = torch.zeros_like(table).index_add_(0, self._items.ids, at_ids)
        return loss, [totals[id(p)] for p in parameters]

    def _item_graph(self, rows: slice) -> _Graph:
        items = self._items.projected(self._network, rows)
        ids = self._network.id_embedding.weight.detach()[items.ids].requires_grad_()
        states = self._network.item_states(items, ids, self._drawn_for(rows, of_items=True))
        projected = dict(zip(_projected_names(self._network), items.projected))
        return _Graph({"ids": ids}, projected | states)

    def _single_graph(self, states: States, part: Part) -> _Graph:
        leaves = _leaves(self._read(states, part))
        return _Graph(leaves, {"single": self._encode(leaves, part)})

    def _item_loss_graph(self, projected: States, item_loss: ItemLoss) -> _Graph:
        leaves = _leaves(projected)
        return _Graph(leaves, {"loss": item_loss(list(leaves.values()), self._items.present)})

    def _back_from_rows(
        self, states: States, singles: Tensor, row_loss: RowLoss, others: list[Tensor], part: Part
    ) -> tuple[Tensor, States, Gradients]:
        leaves = _leaves(self._read(states, part))
        embedding = self._encode(leaves, part)
        shown = self._shown(singles, part)
        if shown is not None:
            leaves["shown"] = shown.requires_grad_()
        loss = row_loss(self._score(embedding, part, shown), part.row)
        return loss.detach(), *_Graph(leaves, {"loss": loss}).back(others)

    def _at_state(self, states: States, name: str, read: list[tuple[Part, States]]) -> Tensor:
        """Return the gradient at a state of all items: the sum over the positions that read it."""
        total = torch.zeros_like(states[name])
        for part, at_leaves in read:
            if name in at_leaves:
                to = self._network.read_columns({name: total}, part.alone)[name]
                to.index_add_(0, self._sequences.item[part.positions], at_leaves[name])
        return total

    # --- both -----------------------------------------------------------------------------

    def _ordered(self, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
        """Do tasks, the last first: sequences are sorted from short to long."""
        return self._run(tasks[::-1])[::-1]

    def _read(self, states: States, part: Part) -> States:
        items = self._sequences.item[part.positions]
        return self._network.read_states(states, items, part.alone)

    def _encode(self, states: States, part: Part) -> Tensor:
        feedback = self._sequences.feedback
        if feedback is not None:
            feedback = feedback[part.positions]
        drawn = self._drawn_for(part.positions, of_items=False)
        return self._network.encode(states, part, feedback, drawn)

    def _score(self, embedding: Tensor, part: Part, shown: Tensor | None) -> Tensor:
        if shown is None:
            return self._network.score(embedding, part)
        return self._network.affinity(prefix_means(embedding, part.end, part.length), shown)

    def _shown(self, singles: Tensor, part: Part) -> Tensor | None:
        return None if self._target is None else singles.index_select(0, self._target_of(part))

    def _target_of(self, part: Part) -> Tensor:
        assert self._target is not None
        return self._target[torch.from_numpy(part.row).to(self._device)]

    def _concatenated(self, parts: list[Tensor]) -> Tensor:
        weight = self._network.id_embedding.weight
        return torch.cat(parts) if parts else weight.new_empty((0, self._network.n_components))

    def _drawn_for(self, here: slice, *, of_items: bool) -> States:
        return {
            name: drawn[here]
            for name, drawn in self._drawn.items()
            if (name in self._of_items) == of_items
        }


def _leaves(states: States) -> States:
    return {name: state.detach().requires_grad_() for name, state in states.items()}


def _joined(blocks: Sequence[States]) -> States:
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def _projected_names(network: AlignmentNetwork) -> list[str]:
    return [f"projected {k}" for k in range(len(network.projections))]


def _sum_of(found: Sequence[Gradients], k: int, parameter: Tensor) -> Tensor:
    """Add up the gradients at parameter k, in their order."""
    those = [g for gradients in found if (g := gradients[k]) is not None]
    # A batch without a single history long enough for attention is no reason to skip a step of it.
    total = torch.zeros_like(parameter) if not those else those[0]
    if len(those) > 1:
        total = those[0] + those[1]
    for gradient in those[2:]:
        total += gradient
    return total
