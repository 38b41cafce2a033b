"""A digest of any Python value by its whole content, the same in every process.

Values are decomposed as by pickle, down to numbers, texts and bytes. But it does not matter which
parts are the same object, how a set is ordered, or where code is stored: classes and functions
outside installed packages are identified by their code and what that refers to.
"""

from __future__ import annotations

import copyreg
import dis
import hashlib
import itertools
import os
import pickle
import struct
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from operator import attrgetter
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np

Parts = tuple[str, Iterable[Any]]

# Values of more parts have no digest: those that contain themselves in many ways never end.
MAX_PARTS = 20_000_000
CONTAINER_PARTS = 20  # parts that a container counts for, empty or not

_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"",
    type(...): lambda value: b"",
    type(NotImplemented): lambda value: b"",
    bool: lambda value: b"1" if value else b"0",
    int: lambda value: value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True),
    float: lambda value: struct.pack("<d", value),
    complex: lambda value: struct.pack("<dd", value.real, value.imag),
    str: lambda value: value.encode("utf-8", "surrogatepass"),
    bytes: bytes,
}
_WRAPPERS: dict[type, tuple[str, ...]] = {
    property: ("fget", "fset", "fdel"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    cached_property: ("func",),
    type(lru_cache(len)): ("__wrapped__",),
    MethodType: ("__func__", "__self__"),
}
# Attributes of a class that are not its code: documentation, and what Python derives.
_NO_CODE = {
    "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__",
    "__annotate__", "__annotate_func__", "__annotations_cache__", "__firstlineno__",
    "__static_attributes__", "__abstractmethods__", "_abc_impl", "__dataclass_fields__",
    "__slotnames__",
}  # fmt: skip


# Folders of installed modules.
_PACKAGE_FOLDERS = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"))


class NoDigest(TypeError):
    """A value has no digest of its content; the message says why."""


class Digester:
    """Computes digests: equal for equal values, different for different ones.

    Types matter (1, 1.0 and True are three values), and so does the order of a dict, which an
    encoder may follow. Functions and classes that several values refer to are read once.
    """

    def __init__(self) -> None:
        self._stack: list[Any] = []  # values that are being decomposed, the outermost first
        self._known: dict[Any, bytes] = {}  # functions and classes that were encoded before
        self._within_code = False
        self._n_left = MAX_PARTS

    def digest(self, value: Any) -> bytes:
        """Return 16 bytes that identify `value`.

        Raises
        ------
        NoDigest
            If it has no content of its own (an open file, a lock), has too many parts, or raises
            while it is decomposed.
        """
        self._stack, self._within_code, self._n_left = [], False, MAX_PARTS
        try:
            return hash_of(self._encoded(value))
        except NoDigest:
            raise
        except Exception as error:  # decomposing an object runs its own code
            raise NoDigest(reason(error)) from error

    def decomposed(self, value: Any) -> Parts:
        """Return the kind of `value`, and the values that it consists of."""
        kind: Any = type(value)
        if kind in (list, tuple):
            return kind.__name__, value
        if kind in (dict, MappingProxyType):
            return "dict", itertools.chain.from_iterable(value.items())
        if kind in (set, frozenset):
            return "set", sorted(map(self._encoded, value))
        if issubclass(kind, np.ndarray):
            return "array", _array_parts(value)
        if kind is FunctionType:
            return "function", self._function_parts(value)
        if issubclass(kind, type):
            return "class", _class_parts(value)
        if kind in _WRAPPERS:
            return kind.__name__, [getattr(value, name) for name in _WRAPPERS[kind]]
        if kind is CodeType:
            return "code", _code_parts(value)
        if issubclass(kind, ModuleType):
            return "module", _module_parts(value)
        picture, torch = sys.modules.get("PIL.Image"), sys.modules.get("torch")
        if picture is not None and issubclass(kind, picture.Image):
            if getattr(value, "is_animated", False):
                raise NoDigest("an open picture of several frames")
            return "picture", picture_parts(value)
        if torch is not None and issubclass(kind, torch.Tensor):
            return "tensor", _tensor_parts(value)
        reducer = copyreg.dispatch_table.get(kind)
        reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
        if isinstance(reduced, str):
            return "name", _name_parts(value, reduced)
        return "object", [part if i < 3 else list(part or ()) for i, part in enumerate(reduced)]

    def _encoded(self, value: Any) -> bytes:
        """Return `value` as bytes, a prefix-free code: none is the beginning of another."""
        self._n_left -= 1
        if self._n_left < 0:
            raise NoDigest(f"more than {MAX_PARTS:,} parts")
        kind = type(value)
        data = None
        if kind in _LEAVES and not (kind is str and self.is_file(value)):
            data, tag = _LEAVES[kind](value), kind.__name__
        elif issubclass(kind, np.generic) and kind is not np.void:
            data, tag = value.tobytes(), value.dtype.str
        if data is not None:
            if len(data) > 64:
                data, tag = hash_of(data), f"long {tag}"
            return b"%s %d:%s" % (tag.encode(), len(data), data)
        if kind is FunctionType or issubclass(kind, type):
            return self._encoded_code(value)
        return self._encoded_parts(value)

    def is_file(self, text: str) -> bool:
        """Return whether a text stands for the content of a file (see `decomposed`)."""
        return False

    def _encoded_parts(self, value: Any) -> bytes:
        for depth, outer in enumerate(self._stack):
            if outer is value:  # it contains itself
                return b"^%d:" % depth
        self._stack.append(value)
        self._n_left -= CONTAINER_PARTS
        tag, parts = self.decomposed(value)
        node = hashlib.blake2b(f"{tag}:".encode(), digest_size=16)
        for part in parts:
            node.update(self._encoded(part))
        self._stack.pop()
        return b"(" + node.digest()

    def _encoded_code(self, value: Any) -> bytes:
        """Encode a class or function: by name and version if installed, else by its code."""
        if value in self._known:
            return self._known[value]
        module, name = value.__module__, value.__qualname__
        if _is_installed(module) and _found(module, name) is value:
            encoded = self._encoded(("installed", module, name, _version(module)))
        elif self._within_code:  # its encoding depends on the code around it
            return self._encoded_parts(value)
        else:
            outer, self._stack, self._within_code = self._stack, [], True
            encoded = self._encoded_parts(value)
            self._stack, self._within_code = outer, False
        self._known[value] = encoded
        return encoded

    def _function_parts(self, function: FunctionType) -> Iterator[Any]:
        yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
        yield vars(function)
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not assigned yet
                yield "nothing"
        code = list(_nested(function.__code__))
        named = {name for part in code for name in part.co_names}
        steps = [step for part in code for step in dis.get_instructions(part)]
        loaded = {s.argval for s in steps if s.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        for name in sorted(loaded & function.__globals__.keys()):
            value = function.__globals__[name]
            yield name
            yield from _used_parts(value, named) if isinstance(value, ModuleType) else [value]
        for name in sorted(
            {s.argval.partition(".")[0] for s in steps if s.opname == "IMPORT_NAME"}
        ):
            yield from (name, _source(find_spec(name)) if name else b"")


def hash_of(*parts: bytes) -> bytes:
    """Return a hash of some bytes, 16 bytes long."""
    result = hashlib.blake2b(digest_size=16)
    for part in parts:
        result.update(part)
    return result.digest()


def reason(error: BaseException) -> str:
    """Return the message of an error in one line."""
    try:
        text = str(getattr(error, "strerror", None) or error)
    except Exception:  # errors run code of their own, too
        text = ""
    lines = text.splitlines() or [type(error).__name__]
    return lines[0].partition(" <_io")[0] or type(error).__name__


def _array_parts(array: Any) -> list[Any]:
    kind, plain = type(array), array.view(np.ndarray)
    data: Any
    if plain.dtype.hasobject:  # objects and texts of any length lie elsewhere
        data = plain.ravel().tolist()
    else:
        plain = plain.astype(plain.dtype.newbyteorder("="), copy=False)  # pickles change it, too
        data = plain.tobytes()
    dtype = plain.dtype
    named = dtype.kind in "biufcmMSUO" and dtype.metadata is None  # fully, by `str`
    parts = [dtype.str if named else dtype, array.shape, data]
    if kind not in (np.ndarray, np.memmap):
        parts += [kind, getattr(array, "__dict__", None)]
    return parts


def picture_parts(image: Any) -> list[Any]:
    """Return all that identifies a PIL image, of its current frame."""
    image.load()  # only now all of `info` is there
    palette = None if image.palette is None else image.palette.mode
    colours = None if palette is None else image.getpalette(palette)
    exif = exif_of(image)
    return [image.mode, image.size, image.info, exif, palette, colours, image.tobytes()]


def exif_of(image: Any) -> dict[int, Any]:
    """Return the EXIF tags of a PIL image; ValueError if they are damaged, in every call."""
    from PIL import Image

    blank = Image.new("1", (1, 1))
    blank.info = image.info
    try:
        blank.getexif()  # `image` itself would raise only in the first call, if at all
        return dict(image.getexif())
    except Exception as error:  # SyntaxError, among others
        raise ValueError(f"damaged EXIF block ({reason(error)})") from error


def _tensor_parts(tensor: Any) -> list[Any]:
    import torch

    values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
    data = values.view(torch.uint8).numpy().tobytes() if len(values) else b""
    return [type(tensor).__name__, str(tensor.dtype), tuple(tensor.shape), data, vars(tensor)]


def _class_parts(cls: type) -> list[Any]:
    code = {k: v for k, v in sorted(vars(cls).items()) if k not in _NO_CODE}
    return [cls.__qualname__, type(cls), cls.__bases__, code]


def _code_parts(code: CodeType) -> list[Any]:
    words = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
    rest = [code.co_consts, code.co_exceptiontable, sys.implementation.cache_tag]
    return [code.co_code, *words, *counts, *rest]


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _nested(inner)


def _used_parts(module: ModuleType, named: set[str]) -> Iterator[Any]:
    """Yield a module, and its attributes that code with these names may use."""
    yield module
    if not _is_installed(module.__name__):
        for name in sorted(named & vars(module).keys()):
            value = vars(module)[name]
            yield name
            if isinstance(value, ModuleType) and value is not module:
                yield from _used_parts(value, named - {name})
            else:
                yield value


def _module_parts(module: ModuleType) -> list[Any]:
    source = _source(getattr(module, "__spec__", None))
    return [module.__name__, _version(module.__name__), source]


def _source(spec: ModuleSpec | None) -> bytes:
    """Return the source of a module; nothing if the version of its package identifies it."""
    file = getattr(spec, "origin", None)
    if file is None or not os.path.isfile(file) or _is_in_package(file):
        return b""
    with open(file, "rb") as source:
        return source.read()


def _name_parts(value: Any, name: str) -> list[Any]:
    """Return module, name and version of an object that is identified by its name."""
    module = pickle.whichmodule(value, name)  # type: ignore[attr-defined]
    if _found(module, name) is not value:
        raise NoDigest(f"{name} is not found in module {module}")
    return [module, name, _version(module)]


def _found(module: str, name: str) -> Any:
    try:
        return attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        return None


def _version(module: str) -> str:
    package = sys.modules.get(module.partition(".")[0])
    return str(getattr(package, "__version__", sys.implementation.cache_tag))


def _is_installed(name: str | None) -> bool:
    """Return whether a module belongs to Python or to an installed package."""
    if name is None:
        return False
    if name.partition(".")[0] == __name__.partition(".")[0]:
        return True  # skmars itself
    module = sys.modules.get(name)
    if module is None or name == "__main__":
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        return origin in ("built-in", "frozen")
    return _is_in_package(file)


def _is_in_package(file: str) -> bool:
    return any(folder in file for folder in _PACKAGE_FOLDERS)
