"""From an object to a flat table of nodes, with its arrays and strings apart."""

from __future__ import annotations

import copyreg
import math
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.utils._folder._arrays import (
    is_fortran,
    is_storable,
    is_storable_tensor,
    torch_dtype,
)
from skmars.utils._folder._classes import constant_name, is_allowed, name_of
from skmars.utils._folder._strings import are_storable, is_text

# Sequences of so many values of one simple type are stored as an array, or a column of strings.
LONG = 16
# What is made again or belongs to the running program: scikit-learn's callbacks.
_TRANSIENT = ("_skl_callbacks", "_skl_callbacks_to_teardown")

_NEW_OBJECT = vars(copyreg)["__newobj__"]  # what `__reduce_ex__` names where state is enough
_KEPT_BY_ARRAYS = {bool: np.bool_, int: np.int64, float: np.float64}


class TreeWriter:
    """Collects the nodes of an object tree, and the arrays and strings that they refer to.

    A node is a JSON list, ``[tag, ...]``, and stands behind those it refers to. What it holds is
    null, a boolean, number or string, or ``[n]`` for node n. An object that is reached in several
    ways is one node.

    Attributes
    ----------
    nodes : list of list
    arrays : list of ndarray or Tensor
    strings : list of sequence of str or None
    """

    def __init__(self) -> None:
        self.nodes: list[list[Any]] = []
        self.arrays: list[Any] = []
        self.strings: list[Sequence[str | None]] = []
        self._node_of: dict[int, int | None] = {}  # by id; None while it is being written
        self._array_at: dict[Any, int] = {}  # by address: several arrays may show one memory
        self._alive: list[Any] = []  # a new object must not get the id of an old one
        self._path: list[str] = []

    def write(self, value: Any, name: str) -> Any:
        """Return what stands for a value in JSON; add the nodes that it needs.

        Parameters
        ----------
        value : object
        name : str
            What leads to it from the value that holds it, for messages: ".steps", "[0]".

        Raises
        ------
        TypeError
            If it, or something in it, can't be stored. The message has the way to it, and its type.
        """
        kind = type(value)
        if value is None or kind in (bool, int) or (kind is float and math.isfinite(value)):
            return value
        if kind is str and is_text(value):
            return value
        key = id(value)
        if key in self._node_of:
            number = self._node_of[key]
            if number is None:
                raise self._refused(value, name, "refers to itself")
            return [number]
        self._node_of[key] = None
        self._alive.append(value)
        self._path.append(name)
        node = self._node(value)
        self._path.pop()
        self._node_of[key] = len(self.nodes)
        self.nodes.append(node)
        return [len(self.nodes) - 1]

    def _node(self, value: Any) -> list[Any]:
        kind = type(value)
        if kind is float:
            return ["float", repr(value)]
        if kind is str:  # of which JSON might make other characters
            return ["text", [ord(c) for c in value]]
        if kind is bytes:
            return ["bytes", self._array(np.frombuffer(value, dtype=np.uint8))]
        if kind in (list, tuple):
            return [kind.__name__, *self._sequence(value)]
        if kind in (set, frozenset):
            return [kind.__name__, *self._sequence(_ordered(value))]
        if kind in (dict, OrderedDict, MappingProxyType):
            return [kind.__name__, *self._mapping(value)]
        if isinstance(value, np.generic):
            return ["scalar", self.write(np.asarray(value).reshape(1), "")]
        if isinstance(value, np.ndarray):
            return self._ndarray(value)
        if isinstance(value, np.dtype):
            return ["dtype", value.str]
        if kind is slice:
            return ["slice", *(self.write(v, "") for v in (value.start, value.stop, value.step))]
        if isinstance(value, PurePath):
            return ["path", str(value)]
        if kind is np.random.RandomState:
            return ["random", self.write(value.get_state(legacy=False), ".get_state()")]
        if kind is np.random.Generator and isinstance(value.bit_generator, np.random.PCG64):
            return ["generator", self.write(value.bit_generator.state, ".bit_generator.state")]
        if kind.__module__.startswith("scipy.sparse") and kind.__name__ in SPARSE:
            parts = (value.data, value.indices, value.indptr)
            return ["sparse", kind.__name__, list(value.shape), *(self.write(p, "") for p in parts)]
        if (constant := constant_name(value)) is not None:
            return ["constant", constant]
        if kind.__module__.startswith("torch") and _is_tensor(value):
            return self._tensor(value)
        if _is_image(value):
            mode, size = value.mode, list(value.size)
            return ["image", mode, size, self._array(np.frombuffer(value.tobytes(), np.uint8))]
        if is_allowed(kind):
            return self._object(value)
        raise self._refused(value)

    def _sequence(self, values: Sequence[Any]) -> list[Any]:
        """Return how values are packed, and where they are."""
        kind = type(values[0]) if len(values) >= LONG else None
        if kind in (str, type(None)) and are_storable(values):
            return ["strings", self._strings(values)]
        if kind is not None and all(type(v) is kind for v in values):
            if kind in _KEPT_BY_ARRAYS and _fit(values, kind):
                return ["numbers", self._array(np.array(values, dtype=_KEPT_BY_ARRAYS[kind]))]
            if issubclass(kind, np.number) and kind is not np.longdouble:
                return ["scalars", self._array(np.array(values, dtype=kind))]
        if kind in (bytes, type(None)) and all(type(v) in (bytes, type(None)) for v in values):
            length = np.array([-1 if v is None else len(v) for v in values], dtype=np.int64)
            joined = b"".join(v for v in values if v is not None)
            flat = self._array(np.frombuffer(joined, dtype=np.uint8))
            return ["bytes", self._array(length), flat]
        names = [f"[{i}]" for i in range(len(values))]
        if len(values) == 2 and type(values[0]) is str:  # a step of a pipeline, say
            names = ["", f"[{values[0]!r}]"]
        return ["values", [self.write(v, name) for v, name in zip(values, names)]]

    def _mapping(self, values: Any) -> list[Any]:
        if len(values) < LONG:
            return [
                "pairs",
                [[self.write(k, ".keys()"), self.write(v, f"[{k!r}]")] for k, v in values.items()],
            ]
        keys, entries = list(values.keys()), list(values.values())
        self._alive += [keys, entries]
        return ["columns", self._sequence(keys), self._sequence(entries)]

    def _ndarray(self, value: NDArray[Any]) -> list[Any]:
        if isinstance(value, np.ma.MaskedArray | np.matrix):
            raise self._refused(value)
        value, frozen = np.asarray(value), not value.flags.writeable
        shape = list(value.shape)
        if is_storable(value.dtype):
            return ["array", value.dtype.str, shape, is_fortran(value), frozen, self._add(value)]
        if value.dtype != object:
            raise self._refused(value, "", f"has the dtype {value.dtype}")
        flat = value.reshape(-1)
        if are_storable(flat):
            return ["strings", shape, frozen, self._strings(flat)]
        return ["objects", shape, frozen, [self.write(v, f"[{i}]") for i, v in enumerate(flat)]]

    def _tensor(self, value: Any) -> list[Any]:
        import torch

        if type(value) not in (torch.Tensor, torch.nn.Parameter) or not is_storable_tensor(value):
            raise self._refused(value)
        parameter, gradient = type(value) is torch.nn.Parameter, value.requires_grad
        shape = list(value.shape)
        return ["tensor", torch_dtype(value), shape, parameter, gradient, self._add(value)]

    def _object(self, value: Any) -> list[Any]:
        cls, tag = type(value), "object"
        state = self._state(value)
        if "torch" in sys.modules and isinstance(value, sys.modules["torch"].nn.Module):
            tag, state = "module", self._module_state(value, state)
        if state is None:
            state = {}
        if not isinstance(state, dict) or not all(type(k) is str and is_text(k) for k in state):
            if not hasattr(cls, "__setstate__"):
                raise self._refused(value, "", "has slots, and no __setstate__")
            return ["stateful", name_of(cls), self.write(state, ".__getstate__()")]
        kept = {k: v for k, v in state.items() if k not in _TRANSIENT}
        self._alive.append(kept)
        attributes = {k: self.write(v, f".{k}") for k, v in kept.items()}
        return [tag, name_of(cls), attributes]

    def _state(self, value: Any) -> Any:
        """Return the state of an object that consists of nothing else."""
        try:
            reduced = value.__reduce_ex__(2)
        except TypeError as error:  # an object of compiled code, say
            raise self._refused(value, "", f"can't be stored: {error}") from error
        if reduced[0] is not _NEW_OBJECT or reduced[1] != (type(value),) or any(reduced[3:]):
            raise self._refused(value, "", "does not consist of its state alone")
        return reduced[2]

    def _module_state(self, value: Any, state: dict[str, Any]) -> dict[str, Any]:
        """Leave out what a new module has, too."""
        import torch

        new, kept = vars(torch.nn.Module()), {}
        for name, part in state.items():
            if name in new and name.endswith("_hooks") and part:
                raise self._refused(part, f".{name}", "holds functions")
            if name not in new or part != new[name]:
                kept[name] = part
        return kept

    def _add(self, array: Any) -> int:
        key = _address(array)
        if key not in self._array_at:
            self._array_at[key] = len(self.arrays)
            self.arrays.append(array)
        return self._array_at[key]

    def _array(self, array: NDArray[Any]) -> Any:
        return self.write(array, "")

    def _strings(self, values: Any) -> list[int]:
        self.strings.append(values)
        return [len(self.strings) - 1, len(values)]

    def _refused(self, value: Any, name: str = "", why: str = "") -> TypeError:
        cls = type(value)
        where = "".join([*self._path, name]) or "The object"
        if callable(value) and hasattr(value, "__name__"):
            return TypeError(
                f"{where} is {value!r}: code can't be stored without pickle. Use a class that you "
                "register with skmars.persistence.register, or joblib.dump(model, FILE), which "
                "stores by name what can be imported."
            )
        why = why or "is none of the classes that can be stored without pickle"
        return TypeError(
            f"{where} is of the type {name_of(cls)}, which {why}. Call "
            f"skmars.persistence.register({cls.__name__}) before saving and before loading, where "
            "its state (__getstate__, or its attributes) consists of plain values, arrays and "
            "objects that can be stored; or use joblib.dump(model, FILE)."
        )


SPARSE = ("csc_array", "csc_matrix", "csr_array", "csr_matrix")
# Modes of pictures whose pixels are all there is to know.
IMAGE_MODES = ("1", "CMYK", "F", "I", "L", "LA", "RGB", "RGBA", "YCbCr")


def _address(array: Any) -> Any:
    """Return a key that is the same for arrays that show the same numbers in one memory."""
    if not isinstance(array, np.ndarray):
        key = "tensor", array.data_ptr(), array.shape, array.stride(), array.dtype
        return key if array.numel() and array.data_ptr() else id(array)
    if not array.size:
        return id(array)
    return "array", array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


def _fit(values: Sequence[Any], kind: type) -> bool:
    return kind is not int or all(-(2**63) <= v < 2**63 for v in values)


def _ordered(values: Any) -> list[Any]:
    """Return the members of a set, in an order that does not change where they can be sorted."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _is_image(value: Any) -> bool:
    if "PIL.Image" not in sys.modules:
        return False
    return isinstance(value, sys.modules["PIL.Image"].Image) and value.mode in IMAGE_MODES
