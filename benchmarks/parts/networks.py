"""DIN four times over: skmars, FuxiCTR, DeepCTR-Torch, and plain PyTorch as anyone would write it.

All have the same network (the head of skmars also reads the product of interest and target, which
the others do not), the same batch size and learning rate, no regularisation and no early stopping.
A contender is made from rows once; `train` is one epoch from fresh weights, `predict` scores all
rows. What a library does to its input when it is made (padding, reading its file) is not timed,
but `DINClassifier.fit` and `predict_proba` are timed whole.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

DIM, ATTENTION_UNITS, HIDDEN_UNITS, LEARNING_RATE = 10, (80, 40), (200, 80), 1e-3


@dataclass(frozen=True)
class Settings:
    """What all contenders are told."""

    n_items: int
    max_length: int = 200
    batch_size: int = 512
    loader_workers: int = 0


def useful_flops(length: NDArray[Any], *, training: bool) -> float:
    """Return the operations in matrix products and sums that DIN cannot do without.

    Per real history position: the first layer on [k, q * k] (factored: its part on q is needed
    once a row), the second layer, the output, the weighted sum of keys. Per row: the part on q,
    and the head on [interest, target]. A product of (n, a) and (a, b) counts 2 n a b. Padding,
    activations and the optimiser do not count. Training is three times the forward pass: the
    gradient of a product is two products.
    """
    h1, h2 = ATTENTION_UNITS
    g1, g2 = HIDDEN_UNITS
    position = 2 * (2 * DIM * h1 + h1 * h2 + h2 + DIM)
    row = 2 * (DIM * h1 + 2 * DIM * g1 + g1 * g2 + g2)
    forward = float(length.sum()) * position + len(length) * row
    return 3 * forward if training else forward


class Skmars:
    """`DINClassifier`, on impressions."""

    def __init__(self, X: Any, y: NDArray[Any], settings: Settings) -> None:
        self.X, self.y, self.settings = X, y, settings

    def train(self) -> None:
        from skmars import DINClassifier

        self.model = DINClassifier(
            embedding_dim=DIM,
            attention_units=ATTENTION_UNITS,
            hidden_units=HIDDEN_UNITS,
            attention_normalization=None,
            item_features=None,
            item_attributes=None,  # the others read ids alone
            user_attributes=None,
            activity_feature=False,
            embedding_l2=0.0,
            learning_rate=LEARNING_RATE,
            max_length=self.settings.max_length,
            batch_size=self.settings.batch_size,
            max_iter=1,
            early_stopping=False,
            random_state=0,
            device="cpu",
        ).fit(self.X, self.y)

    def predict(self) -> NDArray[Any]:
        return self.model.predict_proba(self.X)[:, 1]


class FuxiCTR:
    """FuxiCTR's layers and base class, fed by its `NpzDataLoader` with padded rows.

    The network is its DIN (concatenated target and history through `DIN_Attention`, `MLP_Block`).
    """

    def __init__(self, arrays: dict[str, NDArray[Any]], y: NDArray[Any], settings: Settings):
        from fuxictr.pytorch.dataloaders import RankDataLoader

        self.settings, self.folder = settings, tempfile.TemporaryDirectory()
        path = str(Path(self.folder.name) / "rows.npz")
        np.savez(path, item=arrays["item"], hist_item=arrays["hist_item"], label=y)
        self.features = _feature_map(
            {
                "item": {"type": "categorical", "source": "item"},
                "hist_item": {
                    "type": "sequence",
                    "source": "history",
                    "max_len": settings.max_length,
                    "share_embedding": "item",
                },
            },
            settings.n_items,
            self.folder.name,
        )

        def loader(stage: str) -> Any:
            return RankDataLoader(
                self.features,
                stage=stage,
                train_data=path,
                test_data=path,
                batch_size=settings.batch_size,
                num_workers=settings.loader_workers,
            )

        self.train_loader, self.test_loader = loader("train")[0], loader("test")
        # Both read the same file: one copy of the rows in memory is enough.
        self.test_loader.dataset.darray = self.train_loader.dataset.darray

    def _build(self) -> Any:
        from fuxictr.pytorch.layers import Dice, DIN_Attention, FeatureEmbeddingDict, MLP_Block
        from fuxictr.pytorch.models import BaseModel

        class DIN(BaseModel):  # type: ignore[misc]
            def __init__(self, feature_map: Any, **options: Any) -> None:
                super().__init__(feature_map, "DIN", **options)
                self.table = FeatureEmbeddingDict(feature_map, DIM)
                self.attention = DIN_Attention(DIM, list(ATTENTION_UNITS), "Dice")
                self.dnn = MLP_Block(
                    input_dim=2 * DIM,
                    output_dim=1,
                    hidden_units=list(HIDDEN_UNITS),
                    hidden_activations=[Dice(n) for n in HIDDEN_UNITS],
                    output_activation=self.output_activation,
                )
                self.compile("adam", "binary_crossentropy", LEARNING_RATE)
                self.reset_parameters()
                self.model_to_device()

            def forward(self, inputs: Any) -> dict[str, Tensor]:
                X = self.get_inputs(inputs)
                embedded = self.table(X)
                mask = X["hist_item"].long() != 0
                interest = self.attention(embedded["item"], embedded["hist_item"], mask)
                return {"y_pred": self.dnn(torch.cat([embedded["item"], interest], dim=-1))}

        return DIN(self.features, **_fuxictr_options(self.folder.name))

    def train(self) -> None:
        self.model = self._build()
        _fuxictr_epoch(self.model, self.train_loader)

    def predict(self) -> NDArray[Any]:
        return self.model.predict(self.test_loader)


class FuxiCTRLong:
    """FuxiCTR's own DIN of its collection for long sequences, with the data loader that it has.

    That loader keeps one sequence a user, and pads to the longest history of a batch.
    """

    def __init__(self, X: Any, y: NDArray[Any], settings: Settings) -> None:
        import pandas as pd
        from model_zoo.LongCTR.longctr_dataloader import LongCTRDataLoader

        self.folder = tempfile.TemporaryDirectory()
        where = Path(self.folder.name)
        longest = np.zeros(len(X.users), dtype=np.int64)
        np.maximum.at(longest, X.user, X.history.length)
        start = np.zeros(len(X.users), dtype=np.int64)
        start[X.user] = X.history.start
        codes = X.history.items + 1
        # Rows of a user must be prefixes of one sequence, as those of a log are.
        sequences = [codes[s : s + n] for s, n in zip(start.tolist(), longest.tolist())]
        pd.DataFrame({"full_item_seq": sequences}).to_parquet(where / "users.parquet")
        every = np.arange(settings.n_items + 1)
        items = pd.DataFrame({"item_index": every, "item_id": every})
        items.to_parquet(where / "items.parquet")
        rows = {"user_index": X.user, "item_index": X.target + 1, "seq_len": X.history.length}
        pd.DataFrame({**rows, "label": y}).to_parquet(where / "rows.parquet")
        meta = {name: {"type": "meta"} for name in rows}
        self.features = _feature_map(
            {**meta, "item_id": {"type": "categorical", "source": "item"}},
            settings.n_items,
            self.folder.name,
        )

        def loader(shuffle: bool) -> Any:
            return LongCTRDataLoader(
                self.features,
                str(where / "rows.parquet"),
                str(where / "users.parquet"),
                str(where / "items.parquet"),
                batch_size=settings.batch_size,
                shuffle=shuffle,
                num_workers=settings.loader_workers,
                max_len=settings.max_length,
            )

        self.train_loader, self.test_loader = loader(True), loader(False)

    def train(self) -> None:
        from model_zoo.LongCTR.DIN.DIN import DIN

        self.model = DIN(
            self.features,
            dnn_hidden_units=list(HIDDEN_UNITS),
            dnn_activations="Dice",
            attention_hidden_units=list(ATTENTION_UNITS),
            learning_rate=LEARNING_RATE,
            embedding_dim=DIM,
            **_fuxictr_options(self.folder.name),
        )
        _fuxictr_epoch(self.model, self.train_loader)

    def predict(self) -> NDArray[Any]:
        return self.model.predict(self.test_loader)


def _feature_map(features: dict[str, Any], n_items: int, folder: str) -> Any:
    from fuxictr.features import FeatureMap

    table = {"vocab_size": n_items + 1, "padding_idx": 0}
    feature_map = FeatureMap("rows", folder)
    for name, spec in features.items():
        feature_map.features[name] = spec if spec["type"] == "meta" else {**spec, **table}
    feature_map.labels, feature_map.default_emb_dim = ["label"], DIM
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    return feature_map


def _fuxictr_options(folder: str) -> dict[str, Any]:
    Path(folder, "rows").mkdir(exist_ok=True)
    options = {"verbose": 0, "model_root": folder, "metrics": ["AUC"]}
    return {**options, "optimizer": "adam", "loss": "binary_crossentropy"}


def _fuxictr_epoch(model: Any, loader: Any) -> None:
    """Train for an epoch; its `fit` would also evaluate, and write and read a checkpoint."""
    model._max_gradient_norm, model._eval_steps = 10.0, 1 << 62
    model._total_steps, model._stop_training = 0, False
    model.train_epoch(loader)


class DeepCTRTorch:
    """DeepCTR-Torch's DIN, on padded arrays."""

    def __init__(self, arrays: dict[str, NDArray[Any]], y: NDArray[Any], settings: Settings):
        from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat

        self.settings, self.y = settings, y
        item = SparseFeat("item", settings.n_items + 1, embedding_dim=DIM)
        seen = SparseFeat(
            "hist_item", settings.n_items + 1, embedding_dim=DIM, embedding_name="item"
        )
        self.columns = [item, VarLenSparseFeat(seen, settings.max_length, length_name="length")]
        self.rows = {k: v if v.ndim == 2 else v[:, None] for k, v in arrays.items()}

    def train(self) -> None:
        from deepctr_torch.layers.activation import Dice
        from deepctr_torch.models import DIN

        self.model = DIN(
            self.columns,
            ["item"],
            dnn_hidden_units=HIDDEN_UNITS,
            dnn_activation="dice",
            att_hidden_size=ATTENTION_UNITS,
            att_activation="dice",
            l2_reg_embedding=0.0,
        )
        # Its Dice takes either matrices or sequences, and its head asks for the wrong one.
        dice = [Dice(n, dim=2) for n in HIDDEN_UNITS]
        self.model.dnn.activation_layers = nn.ModuleList(dice)
        optimizer = torch.optim.Adam(self.model.parameters(), LEARNING_RATE)
        self.model.compile(optimizer, "binary_crossentropy")
        with contextlib.redirect_stdout(io.StringIO()):
            self.model.fit(self.rows, self.y, batch_size=self.settings.batch_size, verbose=0)

    def predict(self) -> NDArray[Any]:
        return self.model.predict(self.rows, self.settings.batch_size)[:, 0]


class Padded:
    """Plain PyTorch: histories as views, each batch padded to its longest by one NumPy gather."""

    def __init__(self, X: Any, y: NDArray[Any], settings: Settings) -> None:
        self.settings, self.history = settings, X.history.last(settings.max_length)
        self.codes = (self.history.items + 1).astype(np.int64)
        self.target = torch.from_numpy(X.target.astype(np.int64) + 1)
        self.y = torch.from_numpy(y.astype(np.float32))

    def train(self) -> None:
        torch.manual_seed(0)
        self.network = PaddedDIN(self.settings.n_items)
        optimizer = torch.optim.Adam(self.network.parameters(), LEARNING_RATE)
        for rows in self._batches(torch.randperm(len(self.y))):
            optimizer.zero_grad()
            logit = self.network(self.target[rows], *self._pad(rows.numpy()))
            F.binary_cross_entropy_with_logits(logit, self.y[rows]).backward()
            optimizer.step()

    @torch.no_grad()
    def predict(self) -> NDArray[Any]:
        self.network.eval()
        parts = [
            torch.sigmoid(self.network(self.target[rows], *self._pad(rows.numpy())))
            for rows in self._batches(torch.arange(len(self.y)))
        ]
        return torch.cat(parts).numpy()

    def _batches(self, order: Tensor) -> Iterator[Tensor]:
        yield from order.split(self.settings.batch_size)

    def _pad(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        start, length = self.history.start[rows], self.history.length[rows]
        column = np.arange(max(1, length.max()))
        real = column < length[:, None]
        at = np.where(real, start[:, None] + column, 0)
        history = np.where(real, self.codes[at], 0)
        return torch.from_numpy(history), torch.from_numpy(real)


class BatchDice(nn.Module):
    """Dice by batch normalisation without its affine part, as the libraries have it."""

    def __init__(self, n_units: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_units, eps=1e-8, affine=False)
        self.alpha = nn.Parameter(torch.zeros(n_units))

    def forward(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(self.norm(x))
        return p * x + (1 - p) * self.alpha * x


class PaddedDIN(nn.Module):
    """DIN on a rectangle of positions."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, DIM, padding_idx=0)
        nn.init.normal_(self.items.weight, std=1e-3)
        self.unit = _layers(4 * DIM, ATTENTION_UNITS)
        self.head = _layers(2 * DIM, HIDDEN_UNITS)

    def forward(self, target: Tensor, history: Tensor, real: Tensor) -> Tensor:
        q, k = self.items(target), self.items(history)
        each = q[:, None].expand_as(k)
        x = torch.cat([each, k, each - k, each * k], dim=-1)
        score = self.unit(x.flatten(0, 1)).view_as(history) * real
        interest = (score[:, None] @ k).squeeze(1)
        return self.head(torch.cat([q, interest], dim=1)).squeeze(1)


def _layers(n_inputs: int, units: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_units in units:
        layers += [nn.Linear(n_inputs, n_units), BatchDice(n_units)]
        n_inputs = n_units
    return nn.Sequential(*layers, nn.Linear(n_inputs, 1))


# What each is made from: impressions, or padded arrays.
CONTENDERS = {
    "skmars": (Skmars, "impressions"),
    "PyTorch, padded to the batch": (Padded, "impressions"),
    "FuxiCTR, NpzDataLoader": (FuxiCTR, "arrays"),
    "FuxiCTR, LongCTRDataLoader": (FuxiCTRLong, "impressions"),
    "DeepCTR-Torch": (DeepCTRTorch, "arrays"),
}


def make(name: str, rows: Any, y: NDArray[Any], settings: Settings) -> Any:
    """Make a contender; ImportError where its library is not installed."""
    logging.getLogger().setLevel(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return CONTENDERS[name][0](rows, y, settings)
