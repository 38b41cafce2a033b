"""The alignment network as its equations read: one sequence at a time, in plain torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from skmars import Impressions, ItemCatalog
from skmars.alignment._clicks import new_encoder
from skmars.alignment._encoder import AlignmentEncoder
from skmars.alignment._parameters import AlignerParameters

# Eq. 9-10 with nothing to query, as in the paper, and with a chain of fusions.
MODALITIES = [(), ("text",), ("text", "image"), ("text", "image", "audio", "video")]
WIDTHS = {"text": 5, "image": 3, "audio": 2, "video": 4}


def world(
    seed: int,
    *,
    n_users: int = 4,
    n_items: int = 7,
    n_events: int = 20,
    history: str = "all",
) -> tuple[Impressions, np.ndarray]:
    """Impressions of a random log; items may lack any modality, even all of them."""
    rng = np.random.default_rng(seed)
    log = pd.DataFrame(
        {
            "user_id": rng.integers(0, n_users, n_events),
            "item_id": rng.integers(0, n_items, n_events),
            "liked": np.arange(n_events) % 2,
        }
    )
    missing = {m: rng.random(n_items) < 0.25 for m in WIDTHS}
    features = {m: rng.normal(size=(n_items, d)) for m, d in WIDTHS.items()}
    for m, lacking in missing.items():
        features[m][lacking] = np.nan  # nobody may look at it
    catalog = ItemCatalog(np.arange(n_items), features=features, missing=missing)
    return Impressions.from_log(log, catalog, label="liked", history=history)


def random_encoder(
    X: Impressions,
    modalities: tuple[str, ...] = ("text", "image"),
    *,
    seed: int = 0,
    residual: bool = True,
    causal: bool = True,
    max_length: int = 4,
    click_score: str = "affinity",
) -> AlignmentEncoder:
    """An encoder all of whose weights say something, also those that begin as zero."""
    parameters = AlignerParameters(
        6,
        id_dim=4,
        modalities=modalities,
        n_factors=0,
        residual=residual,
        causal=causal,
        max_length=max_length,
        click_score=click_score,
        dropout=0.0,
        device="cpu",
    )
    encoder = new_encoder(X, parameters, 0)
    generator = torch.Generator().manual_seed(seed)
    network = encoder.network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.5, generator=generator)
        for table in (network.feedback_embedding, network.feedback_gain):
            if table is not None:
                table.weight[table.padding_idx] = 0.0
    return encoder


def attend(layer: Any, query: Tensor, memory: Tensor, sees: Tensor) -> Tensor:
    """Multi-head attention; position i looks at the positions j with ``sees[i, j]``."""
    dim = layer.query.out_features
    key, value = layer.key_value(memory).split(dim, dim=1)
    heads = []
    for part in torch.arange(dim).chunk(layer.n_heads):
        score = layer.query(query)[:, part] @ key[:, part].T / math.sqrt(len(part))
        heads.append(score.masked_fill(~sees, -math.inf).softmax(1) @ value[:, part])
    return layer.out(torch.cat(heads, dim=1))


def project(encoder: AlignmentEncoder, catalog: ItemCatalog, code: int) -> list[Tensor]:
    """Eq. 3 for one item; where it lacks a modality, the mean of those it has."""
    known, network = {}, encoder.network
    for name, layer in zip(network.modality_sizes, network.projections):
        if not catalog.missing[name][code]:
            x = (torch.tensor(catalog.features[name][code]) - layer.mean) / layer.spread
            known[name] = layer.weight @ x + layer.bias
    nothing = torch.zeros(network.n_components)
    mean = sum(known.values(), nothing) / max(len(known), 1)
    return [known.get(name, mean) for name in network.modality_sizes]


@torch.no_grad()
def encode(
    encoder: AlignmentEncoder, catalog: ItemCatalog, codes: Any, feedback: Any = None
) -> Tensor:
    """Eq. 3-4 and 9-12 for one sequence: the embedding of each position.

    Up to Eq. 11 where Eq. 12 is the click score. Feedback is 0, 1, or -1 for unknown.
    """
    network = encoder.network
    i, j = torch.arange(len(codes))[:, None], torch.arange(len(codes))
    sees = (j <= i) & (j > i - network.max_length) if network.causal else (i == i) & (j == j)

    row = {item: 1 + n for n, item in enumerate(encoder.items.ids.tolist())}
    ids = [row.get(item, 0) for item in catalog.ids[codes].tolist()]
    e = network.id_embedding.weight[ids]
    if feedback is not None:
        e = e + network.feedback_embedding.weight[1 + torch.tensor(feedback, dtype=torch.int64)]
    z = attend(network.id_attention, e, e, sees)  # Eq. 4
    if network.residual:
        z = network.id_norm(e + z)
    if network.modality_sizes:
        items = [project(encoder, catalog, code) for code in codes]
        x, *others = (torch.stack(h) for h in zip(*items))
        for h, layer, norm in zip(others, network.fusions, network.fusion_norms):
            x = norm(h + attend(layer, h, x, sees))  # Eq. 9-10
    else:
        x = network.id_projection(e)
    fused = attend(network.id_fusion, x, z, sees)
    x = network.id_fusion_norm(x + fused) if network.residual else fused  # Eq. 11
    if network.click_score == "network":
        return x
    x = x + network.feed_forward(x) if network.residual else network.feed_forward(x)  # Eq. 12
    if feedback is not None:
        gain = network.feedback_gain.weight[1 + torch.tensor(feedback, dtype=torch.int64)]
        x = x * (1 + 10 * gain)
    return x


def user_embedding(encoder: AlignmentEncoder, X: Impressions, row: int) -> np.ndarray:
    """Eq. 13: encode the history of one row, and nothing else, and take the mean."""
    window, h = encoder.network.max_length, X.history
    events = np.arange(h.start[row], h.start[row] + h.length[row])
    if not encoder.network.causal:
        events = events[-window:]
    if not len(events):
        return np.zeros(encoder.network.n_components)
    feedback = None if h.feedback is None else h.feedback[events]
    return encode(encoder, X.catalog, h.items[events], feedback)[-window:].mean(0).numpy()


def user_embeddings(encoder: AlignmentEncoder, X: Impressions) -> np.ndarray:
    """Return `user_embedding` of every row."""
    return np.array([user_embedding(encoder, X, row) for row in range(len(X))])


def target_score(encoder: AlignmentEncoder, X: Impressions, row: int) -> float:
    """Eq. 12 of one row as printed: its history and then its target, in one sequence."""
    network, h = encoder.network, X.history
    events = np.arange(h.start[row], h.start[row] + h.length[row])
    if not network.causal:
        events = events[len(events) - min(len(events), network.max_length - 1) :]
    feedback = None if h.feedback is None else np.append(h.feedback[events].astype(int), -1)
    sequence = encode(encoder, X.catalog, np.append(h.items[events], X.target[row]), feedback)
    with torch.no_grad():
        return float(network.feed_forward(sequence[-1]))
