"""Arrays and tensors as one safetensors file: written in a stream, read by mapping into memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

# Arrays begin at multiples of so many bytes, as those that torch makes: on others, products of
# matrices may have other last bits. (The library that reads the file would write them unaligned.)
ALIGNMENT = 64

# The names that safetensors has for types of numbers; bytes hold all others.
_NUMPY = {
    **{"|b1": "BOOL", "|u1": "U8", "|i1": "I8", "<u2": "U16", "<i2": "I16", "<u4": "U32"},
    **{"<i4": "I32", "<u8": "U64", "<i8": "I64", "<f2": "F16", "<f4": "F32", "<f8": "F64"},
}
_TORCH = {
    **{"bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32"},
    **{"int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"},
}


def is_storable(dtype: np.dtype[Any]) -> bool:
    """Return whether arrays of a type are stored here: all but objects and records."""
    return dtype.kind in "biufcmMSU"


def is_storable_tensor(tensor: Tensor) -> bool:
    """Return whether a tensor is stored here: a dense one of numbers or booleans."""
    import torch

    return tensor.layout == torch.strided and _short(tensor.dtype) in _TORCH


def write_arrays(file: IO[bytes], arrays: Sequence[NDArray[Any] | Tensor]) -> None:
    """Write arrays and tensors, named "0", "1", ... . One at a time is copied, if it must be.

    Parameters
    ----------
    file : binary file, open for writing
    arrays : sequence of ndarray or Tensor
        Arrays in Fortran's order are stored transposed.
    """
    header: dict[str, Any] = {}
    sizes, end = [], 0
    for i, array in enumerate(arrays):
        dtype, shape, size = _described(array)
        gap = -size % ALIGNMENT
        header[str(i)] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
        if gap:
            header[f"gap {i}"] = {"dtype": "U8", "shape": [gap], "data_offsets": [end, end + gap]}
        end += gap
        sizes.append((size, gap))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for array, (size, gap) in zip(arrays, sizes):
        if size:
            file.write(_bytes_of(array).data)
        file.write(bytes(gap))


class ArrayFile:
    """A file that `write_arrays` wrote, mapped into memory: what is read shares its pages.

    The mapping is private to the process: whoever writes to such an array changes a copy of the
    page, neither the file nor what other processes see.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._file: Any = safe_open(path, framework="pt")

    def array(self, number: int, dtype: str, shape: Sequence[int], fortran: bool) -> NDArray[Any]:
        """Return an array; ValueError if it is not of this type and shape."""
        kind = np.dtype(dtype)
        if not is_storable(kind):
            raise ValueError(f"array {number} can't have the type {dtype!r}")
        stored, expected = list(reversed(shape)) if fortran else list(shape), _NUMPY.get(kind.str)
        if expected is None:
            stored, expected = [int(np.prod(shape, dtype=object)) * kind.itemsize], "U8"
        array: NDArray[Any] = self._checked(number, expected, stored).numpy()
        if expected == "U8" and kind.str != "|u1":
            array = array.view(kind).reshape(list(reversed(shape)) if fortran else shape)
        return array.T if fortran else array

    def tensor(self, number: int, dtype: str, shape: Sequence[int]) -> Tensor:
        """Return a tensor; ValueError if it is not of this type and shape."""
        if dtype not in _TORCH:
            raise ValueError(f"tensor {number} can't have the type {dtype!r}")
        return self._checked(number, _TORCH[dtype], list(shape))

    def _checked(self, number: int, dtype: str, shape: list[int]) -> Any:
        part = self._file.get_slice(str(number))
        found = part.get_dtype(), list(part.get_shape())
        if found != (dtype, shape):
            raise ValueError(
                f"array {number} is of type {found[0]} and shape {found[1]}, where the manifest "
                f"has {dtype} and {shape}"
            )
        return self._file.get_tensor(str(number))


def torch_dtype(tensor: Tensor) -> str:
    """Return the name of a tensor's type in the manifest."""
    return _short(tensor.dtype)


def _short(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _described(array: NDArray[Any] | Tensor) -> tuple[str, list[int], int]:
    """Return type, shape and size in bytes of an array as it is stored."""
    if not isinstance(array, np.ndarray):
        return _TORCH[_short(array.dtype)], list(array.shape), array.numel() * array.element_size()
    dtype = _NUMPY.get(array.dtype.str)
    if dtype is None:
        return "U8", [array.nbytes], array.nbytes
    shape = reversed(array.shape) if is_fortran(array) else array.shape
    return dtype, list(shape), array.nbytes


def is_fortran(array: NDArray[Any]) -> bool:
    """Return whether an array is stored transposed."""
    return array.flags.f_contiguous and not array.flags.c_contiguous


def _bytes_of(array: NDArray[Any] | Tensor) -> NDArray[np.uint8]:
    if isinstance(array, np.ndarray):
        straight = array.T if is_fortran(array) else array
        return np.ascontiguousarray(straight).reshape(-1).view(np.uint8)
    import torch

    tensor = array.detach().cpu().contiguous().reshape(-1)
    return np.asarray(tensor.view(torch.uint8).numpy())
