"""A trained alignment network that embeds items and users, as a small, picklable object."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from skmars.alignment._item_factors import ItemFactors
from skmars.alignment._items import ItemInputs
from skmars.alignment._modalities import check_features
from skmars.alignment._network import AlignmentNetwork
from skmars.alignment._packing import (
    MAX_POSITIONS,
    find_segments,
    make_batches,
    pack_batch,
    pack_items,
)
from skmars.alignment._passes import BatchPass
from skmars.alignment._workers import Run, workers
from skmars.data import Impressions, ItemCatalog
from skmars.data._memo import Memo
from skmars.utils._ids import Lookup
from skmars.utils._torch import resolve_device

# Items whose features are held as tensors at a time.
BLOCK = 8192
NO_ITEMS = np.empty(0, dtype=np.int32)


class AlignmentEncoder:
    """Embeds the items of a catalogue and the users of impressions.

    `SteinAligner.transform` attaches it to impressions, which call it when user embeddings are
    read. It never changes: a further fit makes a new one. Embeddings of a catalogue are cached by
    the content of the catalogue's parts.

    Parameters
    ----------
    network : AlignmentNetwork
        On the CPU, in evaluation mode.
    items : Lookup
        The items that the network has an embedding for.
    factors : ItemFactors or None
        The modality "factors", which is added to catalogues.
    device : {"auto", "cpu"}
        Where to compute.
    """

    def __init__(
        self,
        network: AlignmentNetwork,
        items: Lookup,
        factors: ItemFactors | None = None,
        device: str = "cpu",
    ) -> None:
        self.network, self.items, self.device, self.factors = network, items, device, factors
        self._inputs: Memo[ItemInputs] = Memo()
        self._embedded: Memo[ItemCatalog] = Memo()
        self._of_nothing: NDArray[np.float32] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_of_nothing": None}  # what was used before is no content

    def __repr__(self) -> str:
        modalities = ", ".join(self.network.modality_sizes) or "ids only"
        return f"AlignmentEncoder({modalities}; {len(self.items)} known items)"

    def with_network(self, network: AlignmentNetwork) -> AlignmentEncoder:
        """Return an encoder with other weights, but the same items, factors and device."""
        new = copy(self)  # the memory of what was read is shared
        new.network, new._embedded, new._of_nothing = network, Memo(), None
        return new

    def continued(self, X: Impressions) -> AlignmentEncoder:
        """Return an encoder with the same network and the item factors of these rows."""
        if self.factors is None:
            return self
        self.inputs(X.catalog)  # says so if features are not those that it was made for
        return AlignmentEncoder(self.network, self.items, self.factors.continued(X), self.device)

    def out_of_fold(self, X: Impressions, n_folds: int) -> tuple[AlignmentEncoder, ...]:
        """Return an encoder for each fold of users, with item factors made without these users.

        All share one network. There are none without item factors.
        """
        if self.factors is None:
            return ()
        self.inputs(X.catalog)  # says so if features are not those that it was made for
        return tuple(
            AlignmentEncoder(self.network, self.items, factors, self.device)
            for factors in self.factors.out_of_fold(X, n_folds)
        )

    # --- items ----------------------------------------------------------------------------

    def with_factors(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return the catalogue with the item factors as one more modality."""
        return catalog if self.factors is None else catalog.map_parts(self.factors.attach)

    def inputs(self, catalog: ItemCatalog) -> ItemInputs:
        """Return the checked inputs of the network for a catalogue."""
        read = [self._inputs.get(part, self._read) for part in catalog.parts]
        return read[0] if len(read) == 1 else ItemInputs.joined(read)

    def _read(self, part: ItemCatalog) -> ItemInputs:
        read = self.with_factors(part)
        check_features(read, self.network.modality_sizes)
        return ItemInputs((read,), (self.items(part.ids, "item_id of X").astype(np.int64) + 1,))

    def embed_catalog(self, catalog: ItemCatalog) -> ItemCatalog:
        """Return the catalogue with item factors and its aligned item embedding.

        Items of too few users have factors that are predicted from their other features, for later
        steps; here they lack this modality.
        """
        return catalog.map_parts(lambda part: self._embedded.get(part, self._embed_part))

    def _embed_part(self, part: ItemCatalog) -> ItemCatalog:
        inputs = self.inputs(part)
        (full,) = inputs.parts
        if self.factors is not None:
            full = self.factors.predict(full)
        return full.with_embedding(self._embed(inputs))

    def embed_items(self, catalog: ItemCatalog) -> NDArray[np.float32]:
        """Embed each item in a sequence of its own, shape (n_items, n_components)."""
        return self._embed(self.inputs(catalog))

    @torch.no_grad()
    def _embed(self, inputs: ItemInputs) -> NDArray[np.float32]:
        network, device = self._ready()
        result = np.empty((len(inputs), network.n_components), dtype=np.float32)

        def embed(codes: NDArray[np.int64], run: Run) -> NDArray[np.float32]:
            items = inputs.read(codes, network, device)
            sequences = pack_items(codes.astype(np.int32), device)
            return np.asarray(BatchPass(network, items, sequences, run).singles().cpu().numpy())

        known = inputs.known(network.modality_sizes)
        some, others = np.flatnonzero(known), np.flatnonzero(~known)
        with workers(device) as run:
            for codes in np.split(some, range(BLOCK, len(some), BLOCK)):
                if len(codes):
                    result[codes] = embed(codes, run)
            if len(others):
                # All items of which nothing is known are alike: requests bring new ones every time.
                if self._of_nothing is None:
                    self._of_nothing = embed(others[:1], run)
                result[others] = self._of_nothing
        return _finite(result, "items")

    @torch.no_grad()
    def embed_modalities(self, catalog: ItemCatalog) -> dict[str, NDArray[np.float32]]:
        """Embed each modality on its own, as `L_stein` compares them: Eq. 3, normalised or not.

        Rows of items that lack the modality (see `with_factors`) are undefined.
        """
        network, device = self._ready()
        items = self.inputs(catalog).take(np.arange(len(catalog)), network, device)
        projected = items.projected
        if network.normalize:
            projected = [F.normalize(h, dim=1) for h in projected]
        return dict(zip(network.modality_sizes, (h.cpu().numpy() for h in projected)))

    # --- users ----------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(self, X: Impressions) -> NDArray[np.float32]:
        """Return the user embedding of each row, shape (n_rows, n_components): Eq. 13.

        One causal pass serves all rows whose histories are prefixes of one another. An empty
        history gives zeros.
        """
        network, device = self._ready()
        inputs = self.inputs(X.catalog)
        segments = find_segments(X, causal=network.causal, reach=network.reach)
        result = np.zeros((len(X), network.n_components), dtype=np.float32)
        with workers(device) as run:
            for batch in make_batches(segments, np.flatnonzero(segments.prefix), MAX_POSITIONS):
                sequences = pack_batch(
                    X.history,
                    segments,
                    batch,
                    max_length=network.max_length,
                    device=device,
                    singles=NO_ITEMS,
                )
                items = inputs.read(sequences.codes, network, device)
                users = BatchPass(network, items, sequences, run).users()
                result[batch[1]] = users.cpu().numpy()
        return _finite(result, "users")

    def _ready(self) -> tuple[AlignmentNetwork, torch.device]:
        device = resolve_device(self.device)
        network = self.network
        return (network if device.type == "cpu" else deepcopy(network).to(device)), device


@dataclass(frozen=True)
class OutOfFoldEncoder:
    """Embeds the user of each row by the encoder of the row's fold, see `Impressions.fold`.

    `encoder` serves rows of negative fold.
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
    """Return an embedding; FloatingPointError if it is not finite."""
    if not np.isfinite(embedding).all():
        raise FloatingPointError(
            f"SteinAligner: embeddings of {whose} are infinite or NaN. Either features of the "
            "catalogue have extreme values: scale them; or the learning rate of the fit was too "
            "large: fit again with a lower learning_rate."
        )
    return embedding
