"""The parameters of the aligner and their valid ranges."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions, validate_parameter_constraints

from skmars.utils._parameters import Number

Alignment = Literal["stein", "infonce"]
Entropy = Literal["maximize", "paper"] | None
ClickScore = Literal["affinity", "network"]

# Seeds, and numbers of rows and items, are below this.
MOST = int(np.iinfo(np.int32).max)
COUNT = Number(Integral, 1, MOST, closed="both")
# Wider layers, and larger weights in the loss, are mistakes; float32 would not hold the latter.
WIDTH = Number(Integral, 1, 10_000, closed="both")
WEIGHT = Number(Real, 0, 1e9, closed="both")


# What a trained network can't change.
OF_THE_NETWORK = [
    *("n_components", "id_dim", "n_heads", "normalize", "click_score", "residual", "causal"),
    *("max_length", "modalities", "n_factors"),
]


FOLDS = Number(Integral, 2, 100, closed="both")


def check_folds(cv: Any) -> None:
    """Raise ValueError unless `cv` is a number of folds: users are assigned to folds by a hash."""
    validate_parameter_constraints({"cv": [FOLDS]}, {"cv": cv}, caller_name="SteinAligner")


class AlignerParameters(BaseEstimator):
    """The parameters of `SteinAligner`; see its docstring."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [WIDTH],
        "id_dim": [WIDTH],
        "n_heads": [WIDTH],
        "alignment": [StrOptions({"stein", "infonce"})],
        "lam": [WEIGHT],
        "beta": [WEIGHT],
        "entropy": [StrOptions({"maximize", "paper"}), None],
        "normalize": ["boolean"],
        "eta": [Number(Real, 0, 1e9, closed="right")],
        "click_score": [StrOptions({"affinity", "network"})],
        "residual": ["boolean"],
        "causal": ["boolean"],
        "max_length": [COUNT],
        "modalities": ["array-like", None],
        "n_factors": [Number(Integral, 0, 10_000, closed="both")],
        "cv": [FOLDS, list],
        "max_iter": [COUNT],
        "batch_size": [StrOptions({"auto"}), COUNT],
        "learning_rate": [Number(Real, 0, None, closed="neither")],
        "weight_decay": [Number(Real, 0, None, closed="left")],
        "dropout": [Number(Real, 0, 1, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Number(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [COUNT],
        "tol": [Number(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "device": [str],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int = 256,
        *,
        id_dim: int = 128,
        n_heads: int = 2,
        alignment: Alignment = "stein",
        lam: float = 0.1,
        beta: float = 0.1,
        entropy: Entropy = "maximize",
        normalize: bool = True,
        eta: float = 0.1,
        click_score: ClickScore = "affinity",
        residual: bool = True,
        causal: bool = True,
        max_length: int = 200,
        modalities: Sequence[Any] | None = None,
        n_factors: int = 64,
        cv: int = 5,
        max_iter: int = 10,
        batch_size: int | str = "auto",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        dropout: float = 0.3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.id_dim = id_dim
        self.n_heads = n_heads
        self.alignment = alignment
        self.lam = lam
        self.beta = beta
        self.entropy = entropy
        self.normalize = normalize
        self.eta = eta
        self.click_score = click_score
        self.residual = residual
        self.causal = causal
        self.max_length = max_length
        self.modalities = modalities
        self.n_factors = n_factors
        self.cv = cv
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def _check_parameters(self) -> None:
        self._validate_params()
        # Training reports too large a learning rate itself, by a loss that is not finite.
        if min(self.learning_rate, 1.0) * self.weight_decay >= 1:
            raise ValueError(
                f"weight_decay={self.weight_decay:g} is too large: AdamW takes the share "
                "learning_rate * weight_decay of each weight at each step, which must be below 1. "
                "Lower weight_decay."
            )
