"""From a table of nodes, arrays and strings to the object. The table may be a stranger's."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import InconsistentVersionWarning

from skmars.utils._folder._arrays import ArrayFile
from skmars.utils._folder._classes import CACHES, class_named, constant_named
from skmars.utils._folder._strings import StringFile
from skmars.utils._folder._write_tree import IMAGE_MODES, SPARSE

_CONTAINERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_MAPPINGS: dict[str, Any] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "mappingproxy": lambda pairs: MappingProxyType(dict(pairs)),
}


class TreeReader:
    """Makes the values of nodes, which `TreeWriter` describes, one after another.

    A node refers to earlier ones alone. So nothing refers to itself, whatever the table says, and
    the depth of a tree costs nothing.

    Parameters
    ----------
    arrays, strings : ArrayFile, StringFile, or None
        None where there is no such file.
    """

    def __init__(self, arrays: ArrayFile | None, strings: StringFile | None) -> None:
        self._arrays, self._strings = arrays, strings
        self._values: list[Any] = []

    def read(self, nodes: list[Any], root: Any) -> Any:
        """Return the value of the root.

        Raises
        ------
        ValueError
            If the table is no such table. The message has the node, and the class if it names one.
        """
        with warnings.catch_warnings():  # versions are compared once, for all
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            for number, node in enumerate(nodes):
                try:
                    self._values.append(self._made(node))
                except Exception as error:  # NumPy, Arrow and others raise what they like
                    what = f" ({node[1]})" if _names_class(node) else ""
                    reason = str(error) or type(error).__name__
                    raise ValueError(f"node {number}{what} can't be read: {reason}") from error
        return self._value(root)

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            (number,) = value
            if type(number) is not int or not 0 <= number < len(self._values):
                raise ValueError(f"there is no node {number!r} before it")
            return self._values[number]
        if isinstance(value, dict):
            raise ValueError("a mapping where a value is expected")
        return value

    def _made(self, node: Any) -> Any:
        tag, *parts = node
        if tag in _CONTAINERS:
            return _CONTAINERS[tag](self._sequence(*parts))
        if tag in _MAPPINGS:
            return _MAPPINGS[tag](self._pairs(*parts))
        make = getattr(self, f"_make_{tag}", None) if tag in _TAGS else None
        if make is None:
            raise ValueError(f"there are no nodes {tag!r}")
        return make(*parts)

    # --- containers ------------------------------------------------------------------------

    def _sequence(self, packed: str, *parts: Any) -> list[Any]:
        match packed:
            case "values":
                return [self._value(v) for v in _a(list, *parts)]
            case "strings":
                return self._read_strings(*parts).tolist()
            case "numbers":
                return self._of_type(np.ndarray, *parts).tolist()
            case "scalars":
                return list(self._of_type(np.ndarray, *parts))
            case "bytes":
                length, flat = (self._of_type(np.ndarray, part) for part in parts)
                end = np.cumsum(np.maximum(length, 0)).tolist()
                data = flat.tobytes()
                if (end[-1] if end else 0) != len(data):
                    raise ValueError("lengths of bytes do not sum to what there is")
                pairs = zip(end, length.tolist())
                return [None if n < 0 else data[stop - n : stop] for stop, n in pairs]
        raise ValueError(f"there is no way {packed!r} to pack values")

    def _pairs(self, packed: str, *parts: Any) -> list[tuple[Any, Any]]:
        if packed == "pairs":
            return [(self._value(k), self._value(v)) for k, v in _a(list, *parts)]
        if packed == "columns":
            keys, values = (self._sequence(*part) for part in parts)
            return list(zip(keys, values, strict=True))
        raise ValueError(f"there is no way {packed!r} to pack a mapping")

    # --- simple values -----------------------------------------------------------------------

    def _make_float(self, text: Any) -> float:
        return float(_a(str, text))

    def _make_text(self, codes: Any) -> str:
        return "".join(map(chr, _a(list, codes)))

    def _make_bytes(self, array: Any) -> bytes:
        return self._of_type(np.ndarray, array).tobytes()

    def _make_scalar(self, array: Any) -> Any:
        (value,) = self._of_type(np.ndarray, array)
        return value

    def _make_dtype(self, name: Any) -> np.dtype[Any]:
        return np.dtype(_a(str, name))

    def _make_slice(self, *parts: Any) -> slice:
        start, stop, step = map(self._value, parts)
        return slice(start, stop, step)

    def _make_path(self, text: Any) -> Path:
        return Path(_a(str, text))

    def _make_constant(self, name: Any) -> Any:
        return constant_named(_a(str, name))

    def _make_random(self, state: Any) -> np.random.RandomState:
        state = self._of_type(dict, state)
        inner = _a(dict, state["state"])
        key, place = np.array(inner["key"], dtype=np.uint32), _a(int, inner["pos"])
        if key.shape != (624,) or not 0 <= place <= 624:  # which NumPy does not check
            raise ValueError("no state of a random generator")
        random = np.random.RandomState()
        random.set_state({**state, "state": {"key": key, "pos": place}})
        return random

    def _make_generator(self, state: Any) -> np.random.Generator:
        bits = np.random.PCG64()
        bits.state = self._of_type(dict, state)
        return np.random.Generator(bits)

    # --- arrays ------------------------------------------------------------------------------

    def _make_array(
        self, dtype: Any, shape: Any, fortran: Any, frozen: Any, number: Any
    ) -> NDArray[Any]:
        if self._arrays is None:
            raise ValueError("there is no file of arrays")
        form = _a(str, dtype), _shape(shape), _a(bool, fortran)
        return _set_frozen(self._arrays.array(_a(int, number), *form), frozen)

    def _make_strings(self, shape: Any, frozen: Any, place: Any) -> NDArray[Any]:
        return _set_frozen(self._read_strings(place).reshape(_shape(shape)), frozen)

    def _make_objects(self, shape: Any, frozen: Any, entries: Any) -> NDArray[Any]:
        array = np.empty(len(_a(list, entries)), dtype=object)
        for i, entry in enumerate(entries):
            array[i] = self._value(entry)
        return _set_frozen(array.reshape(_shape(shape)), frozen)

    def _make_tensor(
        self, dtype: Any, shape: Any, parameter: Any, gradient: Any, number: Any
    ) -> Any:
        import torch

        if self._arrays is None:
            raise ValueError("there is no file of arrays")
        tensor = self._arrays.tensor(_a(int, number), _a(str, dtype), _shape(shape))
        if _a(bool, parameter):
            return torch.nn.Parameter(tensor, requires_grad=_a(bool, gradient))
        return tensor.requires_grad_(_a(bool, gradient))

    def _make_sparse(self, name: Any, shape: Any, *parts: Any) -> Any:
        from scipy import sparse

        if name not in SPARSE:
            raise ValueError(f"there are no sparse arrays {name!r}")
        data, indices, indptr = (self._of_type(np.ndarray, part) for part in parts)
        n_rows, n_columns = _shape(shape)
        made = getattr(sparse, name)((data, indices, indptr), shape=(n_rows, n_columns))
        made.check_format(full_check=True)  # compiled code will trust the indices
        return made

    def _make_image(self, mode: Any, size: Any, data: Any) -> Any:
        from PIL import Image

        if mode not in IMAGE_MODES:
            raise ValueError(f"there are no pictures of mode {mode!r}")
        width, height = _shape(size)
        pixels = self._of_type(np.ndarray, data)
        return Image.frombytes(mode, (width, height), pixels.tobytes())

    # --- objects -----------------------------------------------------------------------------

    def _make_object(self, name: Any, attributes: Any) -> Any:
        cls = class_named(_a(str, name))
        state = self._attributes(attributes)
        if name in CACHES:
            state[CACHES[name]] = None
        return _with_state(cls.__new__(cls), state)

    def _make_stateful(self, name: Any, state: Any) -> Any:
        cls = class_named(_a(str, name))
        if name in CACHES:
            raise ValueError(f"{name} has attributes, and no other state")
        new: Any = cls.__new__(cls)
        new.__setstate__(self._value(state))
        return new

    def _make_module(self, name: Any, attributes: Any) -> Any:
        import torch

        cls = class_named(_a(str, name))
        if not issubclass(cls, torch.nn.Module):
            raise ValueError(f"{name} is no module of torch")
        new = cls.__new__(cls)
        torch.nn.Module.__init__(new)
        return _with_state(new, self._attributes(attributes))

    def _attributes(self, attributes: Any) -> dict[str, Any]:
        return {name: self._value(v) for name, v in _a(dict, attributes).items()}

    def _of_type(self, kind: type, value: Any) -> Any:
        return _a(kind, self._value(value))

    def _read_strings(self, place: Any) -> NDArray[Any]:
        if self._strings is None:
            raise ValueError("there is no file of strings")
        number, length = _shape(place)
        return self._strings.read(number, length)


_TAGS = {name.removeprefix("_make_") for name in vars(TreeReader) if name.startswith("_make_")}


def _with_state(new: Any, state: dict[str, Any]) -> Any:
    if hasattr(type(new), "__setstate__"):
        new.__setstate__(state)
    else:
        vars(new).update(state)  # past what a frozen dataclass refuses
    return new


def _a(kind: type, value: Any) -> Any:
    """Return the value; ValueError unless it is of this type."""
    if type(value) is not kind:
        raise ValueError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _shape(value: Any) -> list[int]:
    if not all(type(n) is int and n >= 0 for n in _a(list, value)):
        raise ValueError(f"{value!r} is no shape")
    return list(value)


def _set_frozen(array: NDArray[Any], frozen: Any) -> NDArray[Any]:
    owner: Any = array if _a(bool, frozen) else None
    while isinstance(owner, np.ndarray):  # nobody else has what it is a view of
        owner.flags.writeable = False
        owner = owner.base
    return array


def _names_class(node: Any) -> bool:
    named = isinstance(node, list) and len(node) > 1 and node[0] in ("object", "stateful", "module")
    return named and isinstance(node[1], str)
