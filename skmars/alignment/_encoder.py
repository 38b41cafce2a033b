"""A trained alignment network as a small, picklable object: items and users to embeddings."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from skmars.alignment._inputs import ItemInputs, make_passage, run_passage, single_items
from skmars.alignment._item_factors import ItemFactors
from skmars.alignment._network import AlignmentNetwork, Items
from skmars.alignment._segments import MAX_POSITIONS, batches, find_segments
from skmars.data import Impressions, ItemCatalog
from skmars.data._memo import Memo
from skmars.utils import _ragged as ragged
from skmars.utils._ids import Lookup
from skmars.utils._torch import resolve_device

# Items whose features are held as tensors at a time.
BLOCK = 8192


class AlignmentEncoder:
    """Embeds the items of a catalogue and the users of impressions.

    `SteinAligner.transform` attaches it to impressions, which call it when somebody asks for
    user embeddings. It never changes: a further fit makes a new one.

    Parameters
    ----------
    network : AlignmentNetwork
        On the CPU, in evaluation mode.
    item_ids : ndarray
        Ids of the items that the network has an embedding for.
    device : {"auto", "cpu"}
        Where to compute.
    factors : ItemFactors or None
        A modality that catalogues do not bring along.
    """

    def __init__(
        self,
        network: AlignmentNetwork,
        item_ids: NDArray[Any],
        device: str = "cpu",
        factors: ItemFactors | None = None,
    ) -> None:
        self.network, self.device, self.factors = network, device, factors
        self.items = Lookup(item_ids, "item_id of the rows of fit")
        self._inputs: Memo[ItemInputs] = Memo()
        self._embedded: Memo[ItemCatalog] = Memo()

    @property
    def item_ids(self) -> NDArray[Any]:
        return self.items.ids

    def __repr__(self) -> str:
        modalities = ", ".join(self.network.modality_sizes) or "ids only"
        return f"AlignmentEncoder({modalities}; {len(self.item_ids)} known items)"

    def inputs(self, catalog: ItemCatalog) -> ItemInputs:
        """Return what the network reads of a catalogue, checked."""

        def read(part: ItemCatalog) -> ItemInputs:
            return ItemInputs.of(self.describe(part), self.network.modality_sizes, self.items)

        return ItemInputs.stacked([self._inputs.get(part, read) for part in catalog.parts])

    def describe(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return the catalogue with all modalities, the item factors too."""
        return catalog if self.factors is None else self.factors.attach(catalog)

    def out_of_fold(self, X: Impressions, n_folds: int) -> tuple[AlignmentEncoder, ...]:
        """Return the encoder once for each fold of users, with item factors made without them.

        All share one network. None where no modality is made of users.
        """
        if self.factors is None:
            return ()
        return tuple(
            AlignmentEncoder(self.network, self.item_ids, self.device, factors)
            for factors in self.factors.out_of_fold(X, n_folds)
        )

    def embed_catalog(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return the catalogue as described, with its aligned item embedding.

        Items that users hardly know have factors predicted from their content, for later steps;
        here their content stands in.
        """
        return catalog.map_parts(lambda part: self._embedded.get(part, self._embed_part))

    def _embed_part(self, part: ItemCatalog) -> ItemCatalog:
        described = self.describe(part)
        if self.factors is not None:
            described = self.factors.predict(described)
        return described.with_embedding(self.embed_items(part))

    @torch.no_grad()
    def embed_items(self, catalog: ItemCatalog) -> NDArray[np.float32]:
        """Embed each item in a sequence of its own, shape (n_items, n_components)."""
        network, device = self._ready()
        inputs = self.inputs(catalog)
        result = np.empty((len(catalog), network.n_components), dtype=np.float32)
        for begin in range(0, len(catalog), BLOCK):
            codes = np.arange(begin, min(begin + BLOCK, len(catalog)), dtype=np.int32)
            passage = single_items(codes, device)
            items = inputs.take(codes, network, device)
            embedding, _ = run_passage(network, passage, items, np.arange(len(codes)))
            result[codes] = embedding.cpu().numpy()
        return _finite(result, "items")

    @torch.no_grad()
    def embed_modalities(self, catalog: ItemCatalog) -> dict[str, NDArray[np.float32]]:
        """Embed each modality on its own, as `L_stein` compares them: Eq. 3 at unit length.

        Returns
        -------
        dict of str to ndarray of shape (n_items, n_components)
            Rows of items that lack the modality mean nothing, see ``describe(catalog).missing``.
        """
        network, device = self._ready()
        codes = np.arange(len(catalog), dtype=np.int32)
        items = self._items(codes, self.inputs(catalog), network, device)
        units = [F.normalize(h, dim=1).cpu().numpy() for h in items.projected]
        return dict(zip(network.modality_sizes, units))

    @torch.no_grad()
    def __call__(self, X: Impressions) -> NDArray[np.float32]:
        """Return the user embedding of each row, shape (n_rows, n_components): Eq. 13.

        One causal pass serves all rows whose histories are prefixes of one another. An empty
        history gives zeros.
        """
        network, device = self._ready()
        segments = find_segments(X, causal=network.causal, reach=network.reach)
        codes = np.unique(X.history.items[ragged.ranges(segments.start, segments.length)])
        items = self._items(codes, self.inputs(X.catalog), network, device)
        local = np.zeros(len(X.catalog), dtype=np.int64)
        local[codes] = np.arange(len(codes))
        result = np.zeros((len(X), network.n_components), dtype=np.float32)
        for segment, row in batches(segments, np.flatnonzero(segments.prefix), MAX_POSITIONS):
            passage = make_passage(
                X.history, segments, segment, row, max_length=network.max_length, device=device
            )
            _, users = run_passage(network, passage, items, local[passage.code])
            result[row] = users.cpu().numpy()
        return _finite(result, "users")

    def _items(
        self,
        codes: NDArray[np.int32],
        inputs: ItemInputs,
        network: AlignmentNetwork,
        device: torch.device,
    ) -> Items:
        """Project all needed items once, some at a time."""
        blocks = [
            inputs.take(codes[i : i + BLOCK], network, device)
            for i in range(0, max(len(codes), 1), BLOCK)
        ]
        return Items(
            [torch.cat(parts) for parts in zip(*(b.projected for b in blocks))],
            [torch.cat(parts) for parts in zip(*(b.present for b in blocks))],
            torch.cat([b.ids for b in blocks]),
        )

    def _ready(self) -> tuple[AlignmentNetwork, torch.device]:
        device = resolve_device(self.device)
        network = self.network
        return (network if device.type == "cpu" else deepcopy(network).to(device)), device


@dataclass(frozen=True)
class OutOfFoldEncoder:
    """Embeds each user without what was learnt of the users of their fold, see `Impressions.fold`.

    Parameters
    ----------
    encoder : AlignmentEncoder
        For rows of no fold.
    folds : tuple of AlignmentEncoder
        For those of each fold.
    """

    encoder: AlignmentEncoder
    folds: tuple[AlignmentEncoder, ...]

    def __call__(self, X: Impressions) -> NDArray[np.float32]:
        """Return the user embedding of each row, shape (n_rows, n_components)."""
        if X.fold is None:
            return self.encoder(X)
        result = np.empty((len(X), self.encoder.network.n_components), dtype=np.float32)
        for fold in np.unique(X.fold):
            rows = np.flatnonzero(X.fold == fold)
            result[rows] = (self.folds[fold] if fold >= 0 else self.encoder)(X[rows])
        return result


def _finite(embedding: NDArray[np.float32], whose: str) -> NDArray[np.float32]:
    """Return an embedding, unless it is not finite."""
    if not np.isfinite(embedding).all():
        raise FloatingPointError(
            f"SteinAligner: embeddings of {whose} are infinite or NaN. Either features of the "
            "catalogue have extreme values: scale them; or the learning rate of the fit was too "
            "large: fit again with a lower learning_rate."
        )
    return embedding
