"""The interface of objectives that `DINClassifier(auxiliary=...)` trains beside the click loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from skmars.data import Impressions

if TYPE_CHECKING:
    from torch import Tensor, nn

T_co = TypeVar("T_co", covariant=True)  # an array, or a tensor of the same shape
# Item features by the name of their matrix and by codes (see `TrainingBatch`), a row a code: what
# a network asks for, and an objective hands on.
FeatureLookup: TypeAlias = "Callable[[str, Tensor], Tensor]"


class Positions(Protocol[T_co]):
    """The concatenated histories of a batch, as one array for each property of an item.

    `length` has shape (n_rows,), the others (n_positions,): `item` indexes ``items`` of the batch,
    `row` tells the row of the batch, `feedback` is 1 for liked, 0 for not liked and 2 for not
    known, and `borrowed` is 1 where the item is another user's.
    """

    @property
    def item(self) -> T_co: ...
    @property
    def row(self) -> T_co: ...
    @property
    def length(self) -> T_co: ...
    @property
    def feedback(self) -> T_co: ...
    @property
    def borrowed(self) -> T_co: ...


class TrainingBatch(Protocol[T_co]):
    """The rows of a training step.

    `items` are its distinct items as rows of the embedding table (0: not in it), `codes` the same
    as codes into the catalogue, modulo its number of items (rows of different folds see different
    catalogues). `target`, of shape (n_rows,), indexes them; `history` has `Positions`.
    """

    @property
    def items(self) -> T_co: ...
    @property
    def codes(self) -> T_co: ...
    @property
    def target(self) -> T_co: ...
    @property
    def history(self) -> Any: ...


class Network(Protocol):
    """The methods of the network of a `DINClassifier` that an objective may call."""

    def item_embedding(
        self, items: Tensor, codes: Tensor, item_features: FeatureLookup | None = None
    ) -> Tensor:
        """Embed distinct items: shape (n_distinct, width)."""

    def keys(
        self,
        items: Tensor,
        codes: Tensor,
        positions: Any,
        item_features: FeatureLookup | None = None,
    ) -> Tensor:
        """Embed the `Positions` of histories: shape (n_positions, width)."""

    def represent(
        self,
        batch: Any,
        item_features: FeatureLookup | None = None,
        weight: Tensor | None = None,
        mix: Callable[[Tensor], Tensor] | None = None,
    ) -> Any:
        """Return what the head reads of a batch; `mix` may change the embedded positions."""

    def score(self, seen: Any, weight: Tensor | None = None) -> Tensor:
        """Return the logits, of shape (n_rows,), of what the head reads."""


class AuxiliaryLoss(Protocol):
    """A loss that takes part in one training of `DINClassifier`.

    It is what `AuxiliaryObjective.objective` returns. `module`, a `torch.nn.Module` or None, is
    trained along with the network, and is no part of prediction; with `pretrains`, a new network
    is trained to the end without the loss first.
    """

    @property
    def module(self) -> nn.Module | None: ...
    @property
    def pretrains(self) -> bool: ...

    def begin_epoch(self, epoch: int, network: Network, features: FeatureLookup | None) -> None:
        """Prepare for an epoch, of which the first is 0; `features` are those of items."""

    def draw(self, batch: TrainingBatch[NDArray[Any]], random_state: RandomState) -> Any:
        """Draw the random numbers for a batch: an array, a dataclass of arrays, or None.

        Numbers must come from `random_state`, or a fit does not repeat.
        """

    def loss(
        self,
        network: Network,
        batch: TrainingBatch[Tensor],
        features: FeatureLookup | None,
        target: Tensor,
        weight: Tensor | None,
        seen: Any,
        drawn: Any,
    ) -> Tensor:
        """Return a scalar, which is added to the loss of the clicks.

        `target` holds the clicks, 0 and 1, and `weight` row weights of mean one, or None for all
        alike; both have shape (n_rows,). `seen` is what the head has read of the batch: its
        `interest`, `target` and so on. `drawn` is what `draw` returned, as tensors.
        """


class AuxiliaryObjective(Protocol):
    """An objective that `DINClassifier(auxiliary=...)` trains along with that of the clicks.

    Whatever has the method `objective` is one; nothing has to be inherited. It holds parameters,
    checks them, and makes an `AuxiliaryLoss` for each training. With scikit-learn's `BaseEstimator`
    as base class, its parameters can be searched as ``auxiliary__name``.

    Examples
    --------
    An objective that keeps the interest of a user, which the head reads, short:

    >>> from skmars import DINClassifier, make_multimodal_ctr
    >>> class ShortInterest:
    ...     module, pretrains = None, False
    ...     def objective(self, X, table_row, width, n_epochs):
    ...         return self  # holds nothing that a training changes
    ...     def begin_epoch(self, epoch, network, features): ...
    ...     def draw(self, batch, random_state): ...
    ...     def loss(self, network, batch, features, target, weight, seen, drawn):
    ...         return 0.1 * seen.interest.square().mean()
    >>> X, y = make_multimodal_ctr(n_users=20, n_items=20, random_state=0)
    >>> din = DINClassifier(auxiliary=ShortInterest(), max_iter=2, random_state=0).fit(X, y)
    >>> din.n_iter_
    2
    """

    def objective(
        self, X: Impressions, table_row: NDArray[np.int64], width: int, n_epochs: int
    ) -> AuxiliaryLoss:
        """Return the loss for a training, which may learn from its rows.

        `table_row`, of shape (n_items,), has the row of the embedding table of each item of the
        catalogue, 0 for items it lacks; `width` is that of the network's item vectors, and
        `n_epochs` tells how many epochs it has been trained before.
        """


def auxiliary_loss(
    auxiliary: AuxiliaryObjective,
    X: Impressions,
    table_row: NDArray[np.int64],
    width: int,
    n_epochs: int,
) -> AuxiliaryLoss:
    """Return the loss of an objective; TypeError if objective or loss lacks a required method."""
    from torch import nn

    name = getattr(auxiliary, "__name__", type(auxiliary).__name__)
    if isinstance(auxiliary, type):
        raise TypeError(f"auxiliary={name} is a class. Pass an object: auxiliary={name}().")
    loss = auxiliary.objective(X, table_row, width, n_epochs)
    lacking = [m for m in ("begin_epoch", "draw", "loss") if not callable(getattr(loss, m, None))]
    for part, kind in {"module": nn.Module | None, "pretrains": bool}.items():
        if not isinstance(getattr(loss, part, ...), kind):
            lacking.append(part)
    if lacking:
        raise TypeError(
            f"auxiliary={name} made the loss {loss!r}, whose {', '.join(lacking)} is missing or of "
            "the wrong type. skmars.baselines.AuxiliaryLoss says what a loss has."
        )
    return loss
