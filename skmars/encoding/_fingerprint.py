"""What an encoder computes, as a digest that is the same in every process."""

from __future__ import annotations

import hashlib
import pickle
import sys
import uuid
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import joblib
from joblib.func_inspect import get_func_code

from skmars.encoding._content import file_digest

# Parameters that change how fast an encoder is, not what it computes.
_IRRELEVANT = {"device", "batch_size", "n_jobs", "verbose", "memory"}


def fingerprint(*parts: Any) -> str:
    """Digest encoders and other values.

    Estimators count by class and attributes, functions by their source (a function that is
    edited in a notebook is another one), torch modules by their weights, paths by the files'
    content. What can't be pickled equals nothing, not even itself.
    """
    try:
        return str(joblib.hash([describe(part) for part in parts]))
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError):
        return uuid.uuid4().hex


def describe(value: Any) -> Any:
    """Return `value` in terms that hash alike wherever they are computed."""
    if hasattr(type(value), "_fingerprint"):
        return type(value).__qualname__, describe(value._fingerprint())
    if isinstance(value, list | tuple):
        return [describe(v) for v in value]
    if isinstance(value, dict):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, partial):
        return describe([value.func, value.args, value.keywords])
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__qualname__, get_func_code(value)[0], describe([value.__defaults__, cells])]
    if isinstance(value, Path):
        return file_digest(value) if value.exists() else str(value)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.nn.Module):
        return _describe_module(value)
    if hasattr(value, "get_params") and not isinstance(value, type):
        state = {k: v for k, v in vars(value).items() if k not in _IRRELEVANT}
        # Callbacks and the output container watch and dress the result.
        state = {k: v for k, v in state.items() if not k.startswith(("_skl_", "_sklearn_"))}
        return [f"{type(value).__module__}.{type(value).__qualname__}", describe(state)]
    return value


def _describe_module(module: Any) -> list[str]:
    import torch

    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy())
    return [repr(module), repr(getattr(module, "prompts", None)), digest.hexdigest()]
