"""The same numbers as DeepCTR-Torch and FuxiCTR after copying their weights."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import pytest
import torch

from skmars.ctr._batches import Batch, RaggedItems
from skmars.ctr._layers import AttentionPooling
from skmars.ctr._network import DINNetwork

N_ROWS, N_ITEMS, DIM, MAX_LENGTH = 7, 11, 4, 6


def peer(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name.partition('.')[0]} is not installed")


@pytest.fixture
def histories() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, padded histories (0 is padding), lengths: empty, one item and full included."""
    rng = np.random.default_rng(0)
    length = np.array([0, 1, MAX_LENGTH, 3, 2, MAX_LENGTH, 4])
    history = rng.integers(1, N_ITEMS, (N_ROWS, MAX_LENGTH))
    history[np.arange(MAX_LENGTH) >= length[:, None]] = 0
    return rng.integers(1, N_ITEMS, N_ROWS), history, length


def randomize(module: torch.nn.Module) -> None:
    """Statistics included: an affine batch norm that is not the identity is not Dice."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point() and "bn." not in name:
                tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator))
            elif name.endswith(("running_mean", "running_var")):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def copy_perceptron(target, linears: list, output, dices: list) -> None:
    with torch.no_grad():
        for mine, theirs in zip(target.layers, linears, strict=True):
            mine.load_state_dict(theirs.state_dict())
        target.output.weight.copy_(output.weight)
        target.output.bias.copy_(0 if output.bias is None else output.bias)
        for mine, theirs in zip(target.activations, dices):
            mine.eps = theirs.bn.eps
            mine.alpha.copy_(theirs.alpha.flatten())
            mine.running_mean.copy_(theirs.bn.running_mean)
            mine.running_var.copy_(theirs.bn.running_var)


def pooled(pooling: AttentionPooling, table, target, history, length) -> torch.Tensor:
    real = history != 0
    return pooling.eval()(
        table[target],
        table[history[real]],
        torch.from_numpy(np.nonzero(real)[0]),
        torch.from_numpy(length),
    )


@pytest.mark.parametrize("softmax", [False, True])
def test_attention_of_fuxictr(softmax: bool, histories) -> None:
    module = peer("fuxictr.pytorch.layers.attentions.target_attention")
    target, history, length = histories
    if softmax:  # over an empty history FuxiCTR returns the mean of the padding
        target, history, length = target[1:], history[1:], length[1:]
    theirs = module.DIN_Attention(DIM, [8, 5], "Dice", use_softmax=softmax).eval()
    randomize(theirs)
    table = torch.randn(N_ITEMS, DIM, generator=torch.Generator().manual_seed(1))
    mine = AttentionPooling(DIM, (8, 5), "dice", "softmax" if softmax else None)
    layers = theirs.attention_layer.mlp
    copy_perceptron(mine.unit, [layers[0], layers[2]], layers[4], [layers[1], layers[3]])
    expected = theirs(table[target], table[history], torch.from_numpy(history != 0))
    torch.testing.assert_close(pooled(mine, table, target, history, length), expected)


def test_forward_of_fuxictr(histories) -> None:
    """Its DIN: target and pooled history, side by side, into its MLP block."""
    attention = peer("fuxictr.pytorch.layers.attentions.target_attention")
    blocks = peer("fuxictr.pytorch.layers.blocks.mlp_block")
    target, history, _ = histories
    unit = attention.DIN_Attention(DIM, [8], "Dice").eval()
    head = blocks.MLP_Block(2 * DIM, [6, 5], "ReLU", output_dim=1).eval()
    table = torch.nn.Embedding(N_ITEMS, DIM)
    for module in (unit, head, table):
        randomize(module)
    interest = unit(
        table(torch.from_numpy(target)), table.weight[history], torch.from_numpy(history != 0)
    )
    expected = head(torch.cat([table.weight[target], interest], dim=1)).squeeze(1)

    mine = DINNetwork(
        n_items=N_ITEMS - 1, embedding_dim=DIM, attention_units=(8,), hidden_units=(6, 5)
    )
    layers = unit.attention_layer.mlp
    copy_perceptron(mine.interest.unit, [layers[0]], layers[2], [layers[1]])
    mine.head = type(mine.head)(3 * DIM, (6, 5), "relu")
    linears = [head.mlp[0], head.mlp[2], head.mlp[4]]
    copy_head(mine, linears[:2], linears[2], [])
    torch.testing.assert_close(mine.eval()(as_batch(histories, mine, table)), expected)


def test_forward_of_deepctr_torch(histories) -> None:
    inputs = peer("deepctr_torch.inputs")
    models = peer("deepctr_torch.models")
    target, history, length = histories
    columns = [
        inputs.SparseFeat("item", N_ITEMS, embedding_dim=DIM),
        inputs.DenseFeat("age", 1),
        inputs.VarLenSparseFeat(
            inputs.SparseFeat("hist_item", N_ITEMS, embedding_dim=DIM, embedding_name="item"),
            maxlen=MAX_LENGTH,
            length_name="length",
        ),
    ]
    theirs = models.DIN(
        columns, ["item"], dnn_hidden_units=(6, 5), att_hidden_size=(8, 4), dnn_activation="relu"
    ).eval()
    randomize(theirs)
    age = np.linspace(-1, 1, N_ROWS)
    values = {"item": target, "age": age, "hist_item": history, "length": length}
    order = sorted(theirs.feature_index, key=lambda name: theirs.feature_index[name][0])
    X = np.column_stack([values[name] for name in order])
    expected = torch.logit(theirs(torch.from_numpy(X).float())).squeeze(1)

    mine = DINNetwork(
        n_dense=1,
        n_items=N_ITEMS - 1,
        embedding_dim=DIM,
        attention_units=(8, 4),
        hidden_units=(6, 5),
    )
    unit = theirs.attention.local_att
    copy_perceptron(mine.interest.unit, unit.dnn.linears, unit.dense, unit.dnn.activation_layers)
    mine.head = type(mine.head)(3 * DIM + 1, (6, 5), "relu")
    copy_head(mine, theirs.dnn.linears, theirs.dnn_linear, [])
    with torch.no_grad():
        mine.head.output.bias.add_(theirs.out.bias)
    batch = as_batch(histories, mine, theirs.embedding_dict["item"], age)
    torch.testing.assert_close(mine.eval()(batch), expected, rtol=1e-4, atol=1e-5)


def copy_head(mine: DINNetwork, linears: list, output, dices: list) -> None:
    """Peers give [target, interest, ...]; here it is [interest, target, product, ...]."""
    first = torch.nn.Linear(mine.head.layers[0].in_features, linears[0].out_features)
    with torch.no_grad():
        theirs = linears[0].weight
        first.bias.copy_(linears[0].bias)
        first.weight[:, :DIM] = theirs[:, DIM : 2 * DIM]
        first.weight[:, DIM : 2 * DIM] = theirs[:, :DIM]
        first.weight[:, 2 * DIM : 3 * DIM] = 0
        first.weight[:, 3 * DIM :] = theirs[:, 2 * DIM :]
    copy_perceptron(mine.head, [first, *linears[1:]], output, dices)


def as_batch(histories, network: DINNetwork, table, dense: np.ndarray | None = None) -> Batch:
    with torch.no_grad():
        network.items.weight.copy_(table.weight)
    target, history, length = (torch.from_numpy(a) for a in histories)
    real = history != 0
    row = real.nonzero()[:, 0]
    zeros = torch.zeros_like(row)
    ids = torch.arange(N_ITEMS)
    values = torch.zeros(N_ROWS, 0) if dense is None else torch.from_numpy(dense).float()[:, None]
    return Batch(
        values,
        torch.zeros(N_ROWS, 0, dtype=torch.long),
        items=ids,
        codes=ids,
        target=target,
        length=length,
        history=RaggedItems(history[real], row, length, zeros, zeros),
    )
