"""Whether two object trees are equal to the bit, and share their parts in the same way."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import numpy as np
import torch


def check_same(a: Any, b: Any) -> None:
    """Raise AssertionError, with the way to the difference, if two trees differ.

    Of objects, it is their state that is compared.
    """
    _Comparison().check(a, b, type(a).__name__)


class _Comparison:
    def __init__(self) -> None:
        self.partner: dict[int, Any] = {}
        self.alive: list[Any] = []

    def check(self, a: Any, b: Any, way: str) -> None:
        assert type(a) is type(b), f"{way}: {type(a)} became {type(b)}"
        if a is None or isinstance(a, bool | int | str | bytes | type | np.dtype | PurePath):
            assert a == b, f"{way}: {a!r} became {b!r}"
            return
        if isinstance(a, float):
            assert repr(a) == repr(b), f"{way}: {a!r} became {b!r}"
            return
        if id(a) in self.partner:
            assert self.partner[id(a)] is b, f"{way}: what was shared no longer is"
            return
        self.partner[id(a)] = b
        self.alive.append(a)
        if isinstance(a, np.ndarray):
            self.check_arrays(a, b, way)
        elif isinstance(a, torch.Tensor):
            assert (a.dtype, a.shape, a.requires_grad) == (b.dtype, b.shape, b.requires_grad), way
            assert torch.equal(a, b), way
        elif isinstance(a, dict | OrderedDict | MappingProxyType):
            assert list(map(repr, a)) == list(map(repr, b)), f"{way}: other keys"
            for (k, v), w in zip(a.items(), b.values()):
                self.check(v, w, f"{way}[{k!r}]")
        elif isinstance(a, list | tuple):
            assert len(a) == len(b), way
            for i, (v, w) in enumerate(zip(a, b)):
                self.check(v, w, f"{way}[{i}]")
        elif isinstance(a, set | frozenset | slice):
            assert a == b, way
        elif isinstance(a, np.random.RandomState):
            self.check(a.get_state(legacy=False), b.get_state(legacy=False), f"{way}.get_state()")
        elif callable(a) and hasattr(a, "__name__"):
            assert a is b, way
        else:
            states = [x.__getstate__() for x in (a, b)]
            if isinstance(a, torch.nn.Module):
                states = [dict(sorted(state.items())) for state in states]
            self.alive += states
            self.check(*states, way)

    def check_arrays(self, a: Any, b: Any, way: str) -> None:
        assert (a.dtype, a.shape) == (b.dtype, b.shape), way
        assert not a.flags.f_contiguous or b.flags.f_contiguous, f"{way}: another order"
        assert a.flags.writeable == b.flags.writeable, f"{way}: another flag 'writeable'"
        if a.dtype == object:
            for i, (v, w) in enumerate(zip(a.ravel(), b.ravel())):
                self.check(v, w, f"{way}[{i}]")
        else:
            assert a.tobytes() == b.tobytes(), f"{way}: other numbers"
