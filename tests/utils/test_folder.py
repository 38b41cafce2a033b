"""A folder holds what was written, or is refused; no folder, however hostile, runs code."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from skmars.utils import _folder as folders
from skmars.utils._folder import _folder, _manifest, allow, read_folder, write_folder
from skmars.utils._folder._classes import known_names

from ..persistence.equality import check_same

torch = pytest.importorskip("torch")
pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")

FILES = ["arrays.safetensors", "manifest.json", "manifest.sha256", "strings.arrow"]


class Thing:
    """An object with attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


allow(Thing)


def there_and_back(value: Any, path: Path) -> Any:
    write_folder(path, "thing", value)
    return read_folder(path, "thing")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder with a file of each kind."""
    shared = np.arange(3)
    obj = Thing(
        numbers=[shared, shared, np.ones((2, 3), order="F"), torch.ones(2)],
        words=np.array(["a", None, "é"], dtype=object),
        plain={"a": (1, 2.5, "x"), "b": None},
    )
    write_folder(tmp_path / "thing", "thing", obj)
    assert sorted(os.listdir(tmp_path / "thing")) == FILES
    return tmp_path / "thing"


def refused(path: Path, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        read_folder(path, "thing")
    assert path.name in str(caught.value)
    return str(caught.value)


def forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest of a folder, and write the checksum that it then needs."""
    told = json.loads((path / "manifest.json").read_text())
    told = change(told) or told
    sign(path, json.dumps(told).encode())


def sign(path: Path, text: bytes) -> None:
    (path / "manifest.json").write_bytes(text)
    line = f"{hashlib.sha256(text).hexdigest()}  manifest.json\n"
    (path / "manifest.sha256").write_text(line)


# --- what is written is read ---------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs"]))  # halves of characters
    | st.binary()
)
keys = st.text() | st.integers() | st.tuples(st.text(), st.integers())
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner, max_size=20)
        | st.dictionaries(keys, inner).map(OrderedDict)
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=40,
)
long_lists = st.one_of(
    st.lists(each, min_size=16, max_size=20)
    for each in (
        *(st.integers(), st.integers(-5, 5), st.floats(), st.booleans(), st.text()),
        *(st.text() | st.none(), st.binary() | st.none(), st.integers(0, 9).map(np.int32)),
        st.text() | st.integers() | st.binary(),
    )
)


@settings(max_examples=150, deadline=None)
@given(values | long_lists | st.dictionaries(st.text(), st.integers(), min_size=16, max_size=20))
def test_plain_values(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("values")
    check_same(value, there_and_back(value, folder / "v"))
    shutil.rmtree(folder)


ARRAYS = [
    *(np.arange(6, dtype=t).reshape(2, 3) for t in "bBhHiIlLefdFDg" if t != "g"),
    *(np.array(["now", "2026-01-31"], dtype="M8[s]"), np.arange(3).astype("m8[ms]")),
    *(np.arange(3, dtype=">f8"), np.arange(6.0).reshape(2, 3).T, np.arange(9.0)[::2]),
    *(np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)), np.array(5), np.zeros((0, 3))),
    *(np.array([True, False]), np.array(["ab", "ü"]), np.array([b"a", b"bc"]), np.array("x")),
    np.array([["a", None], ["b", "c"]], dtype=object),
    np.array(["a", math.nan, 3, ["x"], None], dtype=object),
    np.array([np.arange(3), np.ones(2)], dtype=object),
    np.zeros(0, dtype=object),
    np.asfortranarray(np.arange(6, dtype=complex).reshape(2, 3)),
]


@pytest.mark.parametrize("frozen", [True, False])
def test_arrays(tmp_path: Path, frozen: bool) -> None:
    arrays = [array.copy(order="K") for array in ARRAYS]
    for array in arrays:
        array.flags.writeable = not frozen
    again = there_and_back(arrays, tmp_path / "a")
    check_same(arrays, again)
    for array in again:
        assert array.size == 0 or array.dtype == object or array.ctypes.data % 64 == 0


def test_other_values(tmp_path: Path) -> None:
    random, generator = np.random.RandomState(3), np.random.default_rng(3)
    random.normal()
    obj = Thing(
        tensors=[
            torch.arange(6).reshape(2, 3).T,
            *(torch.ones(2, dtype=t) for t in (torch.bfloat16, torch.float64, torch.bool)),
            torch.nn.Parameter(torch.ones(2)),
            torch.nn.Parameter(torch.ones(2), requires_grad=False),
            *(torch.tensor(1.5), torch.ones(2, requires_grad=True), torch.zeros(0, 3)),
        ],
        types=[np.float32, np.dtype("f4"), float, torch.float32, torch.nn.functional.relu],
        others=[slice(1, None), Path("a/b"), MappingProxyType({"a": 1}), {1, 2}],
        scalars=[np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("x"), np.float64("nan")],
        network=torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()).eval(),
        random=random,
    )
    check_same(obj, there_and_back(obj, tmp_path / "o"))
    again = there_and_back(generator, tmp_path / "g")
    np.testing.assert_array_equal(again.random(5), generator.random(5))
    for kind in (sparse.csr_array, sparse.csc_matrix):
        matrix = kind(np.eye(3, 4))
        found = there_and_back(matrix, tmp_path / "s")
        assert type(found) is kind
        np.testing.assert_array_equal(found.toarray(), matrix.toarray())


def test_pictures(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    found = there_and_back([image.fromarray(pixels)], tmp_path / "p")[0]
    np.testing.assert_array_equal(np.asarray(found), pixels)


def test_what_is_shared_stays_shared(tmp_path: Path) -> None:
    array, inner = np.arange(1000.0), Thing(a=1)
    obj = Thing(a=array, b=array, c=inner, d=[inner, inner], view=array[:], part=array[:500])
    again = there_and_back(obj, tmp_path / "t")
    assert again.a is again.b
    assert again.c is again.d[0] is again.d[1]
    assert np.shares_memory(again.a, again.view)
    assert (tmp_path / "t/arrays.safetensors").stat().st_size < 8000 + 4000 + 1000


def test_a_deep_tree_costs_no_stack(path: Path) -> None:
    def deepen(told: dict[str, Any]) -> None:
        told["nodes"] = [["list", "values", []]]
        told["nodes"] += [["list", "values", [[i]]] for i in range(50_000)]
        told["root"] = [50_000]

    forge(path, deepen)
    found = read_folder(path, "thing")
    while found:
        (found,) = found


# --- what can't be written -----------------------------------------------------------------------


class Stranger:
    pass


def some_function() -> None:
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Stranger(), ["test_folder.Stranger", "register(Stranger)", "joblib"]),
        (lambda: None, ["<lambda>", "code"]),
        (some_function, ["some_function", "code"]),
        (os.system, ["system", "code"]),
        (date(2026, 1, 1), ["datetime.date"]),
        (Stranger, ["Stranger"]),
        (np.ma.masked_array([1]), ["MaskedArray"]),
        (np.zeros(2, dtype="i4,f8"), ["dtype"]),
        (threading.Lock(), ["lock"]),
        (np.array([Stranger()], dtype=object), ["[0]", "Stranger"]),
    ],
)
def test_what_can_not_be_stored_is_named(tmp_path: Path, value: Any, words: list[str]) -> None:
    obj = Thing(steps=[("first", 1), ("second", Thing(inside={"key": value}))])
    with pytest.raises(TypeError) as caught:
        write_folder(tmp_path / "t", "thing", obj)
    message = str(caught.value)
    for word in ["Thing.steps[1]['second'].inside['key']", *words]:
        assert word in message
    assert os.listdir(tmp_path) == []


def test_what_refers_to_itself_is_refused(tmp_path: Path) -> None:
    obj = Thing()
    obj.me = [obj]
    with pytest.raises(TypeError, match=r"Thing\.me\[0\].*refers to itself"):
        write_folder(tmp_path / "t", "thing", obj)


def test_what_state_alone_would_lose_is_refused(tmp_path: Path) -> None:
    class Reduced:
        def __reduce__(self) -> Any:
            return some_function, ()

    class Words(dict):
        pass

    allow(Reduced)
    with pytest.raises(TypeError, match="does not consist of its state"):
        write_folder(tmp_path / "t", "thing", Reduced())
    with pytest.raises(TypeError, match="built-in type"):
        allow(Words)
    with pytest.raises(TypeError, match="must be a class"):
        allow(Words())


def test_a_class_with_state_of_its_own(tmp_path: Path) -> None:
    class Slotted:
        __slots__ = ("a", "b")

        def __init__(self) -> None:
            self.a, self.b = 1, np.arange(3)

        def __getstate__(self) -> Any:
            return [self.a, self.b]

        def __setstate__(self, state: Any) -> None:
            self.a, self.b = state

    allow(Slotted)
    again = there_and_back(Slotted(), tmp_path / "t")
    assert again.a == 1
    np.testing.assert_array_equal(again.b, np.arange(3))


# --- damage --------------------------------------------------------------------------------------


def test_each_flipped_bit_is_noticed(path: Path) -> None:
    read_folder(path, "thing")
    rng = np.random.default_rng(0)
    for name in FILES:
        whole = (path / name).read_bytes()
        places = range(len(whole))
        if name in ("arrays.safetensors", "strings.arrow"):
            places = rng.choice(len(whole), 200, replace=False).tolist()
        for place in places:
            bits = range(8) if name == "manifest.sha256" else [int(rng.integers(8))]
            for bit in bits:
                damaged = bytearray(whole)
                damaged[place] ^= 1 << bit
                (path / name).write_bytes(damaged)
                message = refused(path)
                assert name in message or "manifest.json" in message
        (path / name).write_bytes(whole)
    read_folder(path, "thing")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cut_grown_and_mixed_files_are_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "thing"
    write_folder(path, "thing", {"a": np.arange(50.0), "b": np.array(["x", "y"], dtype=object)})
    name = data.draw(st.sampled_from(FILES))
    whole = (path / name).read_bytes()
    a, b = sorted(data.draw(st.integers(0, len(whole))) for _ in range(2))
    some = data.draw(st.binary(min_size=1, max_size=9))
    changed = data.draw(
        st.sampled_from(
            [
                *(whole[:a], whole[:a] + whole[b:], whole[:b] + whole[a:], whole + some, some),
                *(whole[:a] + some + whole[a:], whole[:a] + bytes(b - a) + whole[b:], b""),
            ]
        )
    )
    (path / name).write_bytes(changed)
    if changed == whole:
        read_folder(path, "thing")
    else:
        refused(path)


def test_missing_foreign_and_renamed_files_are_noticed(path: Path) -> None:
    for name in FILES:
        (path / name).rename(path / "aside")
        assert "aside" in refused(path) or name in refused(path)
        (path / "aside").rename(path.parent / "aside")
        assert name in refused(path)
        os.symlink(path.parent / "aside", path / name)
        assert "is a link" in refused(path)
        (path / name).unlink()
        os.mkfifo(path / name)
        assert "no file" in refused(path)
        (path / name).unlink()
        (path.parent / "aside").rename(path / name)
    (path / "arrays.safetensors").rename(path / "aside")
    (path / "strings.arrow").rename(path / "arrays.safetensors")
    (path / "aside").rename(path / "strings.arrow")
    assert "arrays.safetensors" in refused(path)


def test_what_may_stand_beside(path: Path) -> None:
    (path / "pools/3").mkdir(parents=True)
    (path / "pools/3/x").write_text("of its own")
    (path / "params").mkdir()
    read_folder(path, "thing")
    for name in ("pool", ".hidden", "pools2"):
        (path / name).mkdir()
        assert name in refused(path)
        (path / name).rmdir()
        (path / name).write_text("x")
        assert name in refused(path)
        (path / name).unlink()
    shutil.rmtree(path / "pools")
    (path / "pools").symlink_to(path.parent)
    assert "pools is a link" in refused(path)


def test_what_is_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    assert "no folder" in refused(tmp_path / "file", NotADirectoryError)
    assert "does not exist" in refused(tmp_path / "none", FileNotFoundError)
    assert "no file manifest.json" in refused(tmp_path / "empty")


def test_other_kinds_formats_and_versions(path: Path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="holds a saved thing, not a pool"):
        read_folder(path, "pool")
    forge(path, lambda told: {**told, "version": 2})
    assert "version 2" in refused(path)
    forge(path, lambda told: {**told, "version": 1, "format": "other"})
    assert "'other'" in refused(path)
    older = {**_manifest.installed_versions(), "scikit-learn": "0.1", "torch": "0.2", "numpy": "1"}
    forge(path, lambda told: {**told, "format": "skmars-folder", "versions": older})
    with pytest.warns(UserWarning, match=r"scikit-learn 0.1 \(here: .*torch 0.2 \(here") as caught:
        read_folder(path, "thing")
    assert len(caught) == 1
    assert "numpy" not in str(caught[0].message)


def test_a_package_that_is_not_installed(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_folder, "find_spec", lambda name: None)
    for run in (lambda: read_folder(path, "thing"), lambda: write_folder(path, "thing", 1)):
        with pytest.raises(ImportError, match=r'needs pyarrow.*pip install "skmars\[serving\]"'):
            run()


# --- forged folders, whose checksums are right ---------------------------------------------------


def with_node(*node: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change that makes of this node the root."""

    def change(told: dict[str, Any]) -> None:
        told["nodes"].append(list(node))
        told["root"] = [len(told["nodes"]) - 1]

    return change


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "posix.system"),
        *("skmars.__main__.main", "skmars.cli._command_line.main", "skmars.cli.main"),
        *("sklearn.pipeline.Pipeline.__init__", "sklearn.utils._bunch.Bunch", "", ".", "a..b"),
        *("joblib.memory.Memory", "skmars.encoding._cache.Folder", "torch.load", "numpy.load"),
    ],
)
def test_no_other_class_is_made(path: Path, name: str, monkeypatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(folders._classes, "import_module", imported.append)
    for tag in ("object", "stateful", "module"):
        forge(path, with_node(tag, name, {} if tag != "stateful" else None))
        assert repr(name) in refused(path)
    forge(path, with_node("constant", name))
    assert repr(name) in refused(path)
    assert not [n for n in imported if not n.startswith("torch")]


@pytest.mark.parametrize(
    "node",
    [
        ["object", "skmars.utils._ids.Lookup", [0]],
        ["object", "skmars.utils._ids.Lookup"],
        ["object", ["skmars.utils._ids.Lookup"], {}],
        ["module", "skmars.utils._ids.Lookup", {}],
        ["object", "skmars.utils._ids.Lookup", {"ids": [99]}],
        ["object", "skmars.utils._ids.Lookup", {"ids": {"a": 1}}],
        ["object", "skmars.data._memo.Memo", {}],
        *(["list", "values", [[n]]] for n in (-1, 10**9, True, 0.5, "0", None, [0])),
        ["list", "values", [[0, 1]]],
        *(["list", "other", []], ["list"], ["list", "values", 3], ["list", "numbers", 3]),
        *([], "list", None, 7, {}, ["made"], ["__init__"], ["_object"], ["read", [], None]),
        *(["bytes", "x"], ["float", "x"], ["float", 1], ["scalar", None], ["dtype", "nonsense"]),
        *(["array", "<f8", [3], False, False, 99], ["array", "<f8", [4], False, False, 0]),
        *(["array", "<f4", [3], False, False, 0], ["array", "O", [3], False, False, 0]),
        *(["array", "<i8", [-3], False, False, 0], ["array", "<i8", 3, False, False, 0]),
        *(["array", "<i8", [3], 1, False, 0], ["array", "<i8", [3], False, False, "0"]),
        ["array", "<i8", [2**62, 2**62], False, False, 0],
        *(["tensor", "int64", [3], 0, False, 0], ["tensor", "int64", [9], False, False, 0]),
        ["tensor", "int64", [3], True, True, 0],  # integers have no gradient
        *(["tensor", "complex64", [3], False, False, 0], ["tensor", "F64", [3], False, False, 0]),
        *(["strings", [3], False, [7, 3]], ["strings", [3], False, [0, 9]]),
        *(["strings", [4], False, [0, 3]], ["objects", [9], False, []]),
        ["sparse", "csr_array", [1, 2], [0], [0], [0]],
        ["sparse", "coo_array", [2, 2], [0], [0], [0]],
        ["image", "RGB", [1000, 1000], [0]],
        ["image", "P", [1, 1], [0]],
        ["random", 3],
        ["generator", None],
        *(["set", "values", [[0]]], ["dict", "pairs", [[[0], 1]]], ["dict", "pairs", [[1]]]),
        *(["slice", 1], ["path", 3], ["constant", None], ["constant", "torch.compile"]),
    ],
)
def test_forged_nodes_are_refused(path: Path, node: Any) -> None:
    def change(told: dict[str, Any]) -> None:
        told["nodes"].append(node)

    forge(path, change)
    message = refused(path)
    if isinstance(node, list) and len(node) > 1 and isinstance(node[1], str) and "." in node[1]:
        assert node[1] in message


def test_indices_that_compiled_code_would_trust_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    random = {"key": np.zeros(624, np.uint32), "pos": 10**6}
    state = {"bit_generator": "MT19937", "state": random, "has_gauss": 0, "gauss": 0.0}
    write_folder(path, "thing", [np.ones(2), np.array([0, 10**6]), np.array([0, 1, 2]), state])
    told = json.loads((path / "manifest.json").read_text())
    data, indices, indptr, random_state = told["nodes"][-1][2]
    whole = (path / "manifest.json").read_bytes()
    forge(path, with_node("sparse", "csr_array", [2, 2], data, indices, indptr))
    assert "must be < 2" in refused(path)
    sign(path, whole)
    forge(path, with_node("random", random_state))
    assert "random generator" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["files"].update({"../../secret": told["files"]["strings.arrow"]}),
        lambda told: told["files"].update({"/etc/passwd": {"size": 1, "sha256": ""}}),
        lambda told: told["files"].update({"pools/x": {"size": 1, "sha256": ""}}),
        lambda told: told["files"].pop("strings.arrow") and None,
        lambda told: told["files"].clear(),
        lambda told: told["files"]["strings.arrow"].update(size=3),
        lambda told: told.update(files=[]),
        lambda told: told.update(nodes={}),
        lambda told: told.update(nodes=None),
        lambda told: told.update(versions=[]),
        lambda told: told.update(root=[10**6]),
        lambda told: told.update(root=[-1]),
        lambda told: told.update(root={"a": 1}),
        lambda told: told.update(kind=None),
        lambda told: told.update(version=True),
        lambda told: [told],
    ],
)
def test_forged_manifests_are_refused(path: Path, change: Callable[[Any], Any]) -> None:
    forge(path, change)
    refused(path)


def test_huge_and_nested_manifests_are_refused(path: Path) -> None:
    for text in (b"[" * 10**6, b'{"a":' * 10**6, b"[" * 10**5 + b"]" * 10**5, b"1" * 5000, b"\xff"):
        sign(path, text)
        assert "manifest.json is no manifest" in refused(path)
    os.truncate(path / "manifest.json", _manifest.MAX_BYTES + 1)
    assert "more than any manifest" in refused(path)


def test_a_manifest_that_could_not_be_read_is_not_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_manifest, "MAX_BYTES", 3000)
    with pytest.raises(ValueError, match="too many parts"):
        write_folder(tmp_path / "t", "thing", {f"key {i}": [i, str(i)] for i in range(100)})
    assert os.listdir(tmp_path) == []


def test_forged_files_of_arrays_and_strings_are_refused(path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("arrays.safetensors", "strings.arrow"):
        whole = (path / name).read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for place in rng.integers(len(whole), size=3):
                data[place] = rng.integers(256)
            (path / name).write_bytes(data)
            digest = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            forge(path, lambda told, name=name, digest=digest: told["files"].update({name: digest}))
            with suppress(ValueError, OSError):  # or nothing that matters was changed
                read_folder(path, "thing")
        (path / name).write_bytes(whole)


def test_loading_looks_up_no_code(path: Path) -> None:
    """No code is run that the folder brings: nothing is unpickled, started, or connected to."""
    program = f"""
import sys, torch, pyarrow, safetensors
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from skmars.utils import _folder
from skmars.utils._ids import Lookup
_folder.allow(type("Thing", (), {{"__module__": {Thing.__module__!r}, "__qualname__": "Thing"}}))
bad = ("pickle.", "os.system", "subprocess.", "socket.", "os.exec", "os.spawn", "exec", "compile")
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event.startswith(bad) else None)
found = _folder.read_folder({str(path)!r}, "thing")
print(len(found.numbers), seen)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout == "4 []\n", done.stderr


# --- writing -------------------------------------------------------------------------------------


def test_an_earlier_one_stays_until_the_new_one_is_complete(path: Path, monkeypatch) -> None:
    before = {name: (path / name).read_bytes() for name in FILES}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("write_arrays", "write_strings", "write_manifest"):
        with monkeypatch.context() as patch:
            patch.setattr(_folder, name, full)
            with pytest.raises(OSError, match="thing can't be written: No space left.*Nothing has"):
                write_folder(path, "thing", [np.ones(3), np.array(["a"], dtype=object)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_folder(path, "thing", [1])
    assert {name: (path / name).read_bytes() for name in FILES} == before
    assert os.listdir(path.parent) == ["thing"]
    write_folder(path, "thing", [1])
    assert read_folder(path, "thing") == [1]
    assert os.listdir(path.parent) == ["thing"]


def test_without_an_exchange_of_names(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(folders._atomic, "_exchange", lambda *_: False)
    write_folder(path, "thing", [1])
    assert read_folder(path, "thing") == [1]
    assert os.listdir(path.parent) == ["thing"]


def test_what_is_something_else_is_not_replaced(path: Path, tmp_path: Path) -> None:
    for make in (
        lambda p: p.write_text("a file"),
        lambda p: (p.mkdir(), (p / "notes.txt").write_text("mine")),
        lambda p: (p.mkdir(), (p / "manifest.json").write_text("{}")),
        lambda p: (shutil.copytree(path, p), (p / "notes.txt").write_text("mine")),
        lambda p: (shutil.copytree(path, p), (p / "sub").mkdir()),
        lambda p: (shutil.copytree(path, p), (p / "pools/3").mkdir(parents=True)),
        lambda p: (shutil.copytree(path, p), (p / "params/1").mkdir(parents=True)),
        lambda p: write_folder(p, "pool", [1]),
    ):
        place = tmp_path / "place"
        make(place)
        before = sorted(place.rglob("*"))
        with pytest.raises(FileExistsError, match="place"):
            write_folder(place, "thing", [1])
        assert sorted(place.rglob("*")) == before
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(FileNotFoundError, match="no folder"):
        write_folder(tmp_path / "no/thing", "thing", [1])


def test_what_is_replaced(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", "thing", [1])
    (path / "strings.arrow").write_bytes(b"damaged")
    (path / "pools").mkdir()  # in which nothing is
    write_folder(path, "thing", [1])
    (tmp_path / "link").symlink_to("thing")
    write_folder(tmp_path / "link", "thing", [2])
    assert (tmp_path / "link").is_symlink()
    assert read_folder(path, "thing") == read_folder(tmp_path / "link", "thing") == [2]


def test_remains_of_killed_processes_are_removed(path: Path) -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from skmars.utils._folder import _folder
_folder.write_manifest = lambda *_: os._exit(9)
_folder.write_folder({str(path)!r}, "thing", [1])
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert len(os.listdir(path.parent)) == 2
    read_folder(path, "thing")
    write_folder(path.parent / "other", "thing", [1])
    assert sorted(os.listdir(path.parent)) == ["other", "thing"]


def test_one_that_is_replaced_is_read_as_one_or_the_other(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    path, over, failures = tmp_path / "thing", threading.Event(), []

    def version(n: int) -> list[Any]:
        return [n, np.full(5000, n), np.array([f"{n}"] * 20, dtype=object)]

    write_folder(path, "thing", version(0))

    def read() -> None:
        while not over.is_set():
            try:
                n, numbers, words = read_folder(path, "thing")
                assert set(numbers.tolist()) == {n}
                assert set(words) == {str(n)}
            except Exception as error:
                # Who replaces it all the time may hinder readers, but not mislead them.
                if "was replaced whenever it was read" not in str(error):
                    failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(60):
        write_folder(path, "thing", version(n))
    over.set()
    for reader in readers:
        reader.join()
    assert failures == []


def test_a_large_object_is_in_memory_once(tmp_path: Path) -> None:
    features = np.zeros((1_000, 25_000), dtype=np.float32)
    tracemalloc.start()
    try:
        write_folder(tmp_path / "t", "thing", Thing(a=features, b=features.T, c=features[::2]))
        writing = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        again = read_folder(tmp_path / "t", "thing")
        reading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert again.a.nbytes == features.nbytes == 100_000_000
    assert writing < 0.6 * features.nbytes  # the strided half is copied
    assert reading < 0.1 * features.nbytes


def test_arrays_are_mapped_and_private(tmp_path: Path) -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("Linux tells how much memory is the process's own")

    def own_memory() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Anonymous")).split()[1])

    write_folder(tmp_path / "t", "thing", [np.ones((1000, 8000)), torch.ones(1000, 8000)])
    before = own_memory()
    array, tensor = read_folder(tmp_path / "t", "thing")
    total = array.sum() + float(tensor.sum())  # every page is looked at
    assert total == 16_000_000
    assert own_memory() - before < 10_000_000
    array[:] = 2.0
    assert own_memory() - before > 60_000_000
    assert read_folder(tmp_path / "t", "thing")[0][0, 0] == 1.0


def test_names_of_known_classes_are_of_these_libraries() -> None:
    assert {name.split(".")[0] for name in known_names()} == {"skmars", "sklearn", "torch"}
    assert len(known_names()) > 90
