"""What the parameters of DINClassifier may be, checked before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import HasMethods, StrOptions

from skmars.utils._parameters import Number

# More units than that in a layer, or numbers in an embedding, is a slip of the keyboard.
WIDEST, DEEPEST = 1 << 14, 64
_NAMES = ("item_features", "item_attributes", "user_attributes", "linear_context")
_COUNT = Number(Integral, 1, None, closed="left")

CONSTRAINTS: dict[str, list[Any]] = {
    "embedding_dim": [Number(Integral, 1, WIDEST, closed="both")],
    "attention_units": ["array-like"],
    "hidden_units": ["array-like"],
    "activation": [StrOptions({"dice", "prelu", "relu", "sigmoid"})],
    "attention_normalization": [StrOptions({"softmax", "sqrt"}), None],
    "borrowed": [StrOptions({"auto", "separate", "marked", "joint"})],
    "item_features": [StrOptions({"auto"}), list, tuple, None],
    "item_attributes": [StrOptions({"auto"}), list, tuple, None],
    "user_attributes": [StrOptions({"auto"}), list, tuple, None],
    "linear_context": [StrOptions({"auto"}), list, tuple, None],
    "activity_feature": ["boolean"],
    "max_length": [_COUNT],
    "embedding_l2": [Number(Real, 0, 1e6, closed="both")],
    "learning_rate": [Number(Real, 0, 1e30, closed="right")],
    "batch_size": [_COUNT, StrOptions({"auto"})],
    "max_iter": [_COUNT],
    "early_stopping": ["boolean", StrOptions({"auto"})],
    "holdout": [StrOptions({"auto", "last", "users"})],
    "validation_fraction": [Number(Real, 0, 1, closed="neither"), StrOptions({"auto"})],
    "n_iter_no_change": [_COUNT],
    "tol": [Number(Real, 0, None, closed="left")],
    "auxiliary": [HasMethods("objective"), None],
    "class_weight": [dict, StrOptions({"balanced"}), None],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "device": [str],
    "verbose": ["verbose"],
}


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Check what constraints of single values can't say.

    Raises
    ------
    ValueError
        If layers are not a sequence of widths, or names repeat or are no names.
    """
    for name, value in parameters.items():
        if name in ("attention_units", "hidden_units"):
            _check_widths(name, value)
        if isinstance(value, list | tuple) and name in _NAMES:
            _check_names(name, list(value))


def check_together(auxiliary: Any, device: str) -> None:
    """Check the parameters of a classifier that several processes are to train together.

    Raises
    ------
    ValueError
        If there is an auxiliary objective, or the device is none of the CPUs.
    """
    if auxiliary is not None:
        raise ValueError(
            f"auxiliary={auxiliary!r} needs all rows of a batch in one process, but each of "
            "several has a part of them. Fit in one process, or set auxiliary=None."
        )
    if device != "cpu":
        raise ValueError(
            f"several processes train on CPUs, got device={device!r}. Set device='cpu', or fit in "
            "one process."
        )


def _check_widths(name: str, value: Any) -> None:
    widths = list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else None
    if widths is None or len(widths) > DEEPEST:
        raise ValueError(f"{name} must be a sequence of up to {DEEPEST} widths, got {value!r}.")
    for width in widths:
        is_count = isinstance(width, Integral) and not isinstance(width, bool)
        if not (is_count and 1 <= width <= WIDEST):
            raise ValueError(
                f"{name}={value!r} must hold the width of each hidden layer, an int from 1 to "
                f"{WIDEST}; {width!r} is none."
            )


def _check_names(name: str, names: list[Any]) -> None:
    for i, one in enumerate(names):
        if not isinstance(one, str):
            raise ValueError(f"{name} must name columns, but {one!r} is no string.")
        if one in names[:i]:
            raise ValueError(f"{name}={names!r} names {one!r} twice.")
