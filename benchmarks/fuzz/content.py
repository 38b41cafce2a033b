"""What does the encoder make of broken content, and which contents does it confuse?

    python -m benchmarks.fuzz.content --n 10000 --seed 0
    python -m benchmarks.fuzz.content pictures texts --n 100000

Draws so many inputs of each kind and checks what must hold for any of them:

pictures   bytes of PNG, JPEG, GIF, WebP, TIFF and BMP files with damages, arrays of any dtype and
           shape, images of Pillow of any mode, anything else: each is masked and named in one
           warning, or has the same finite vector in every fit
texts      any Unicode, half characters included, and what is no text: the same
raw        nested values: each is masked, or its vector is the one that its encoder makes of it
digests    nested values: equal for a copy, different after any single change
cache      files of a cache folder with damages: vectors are right, and the files whole afterwards

Prints how many inputs there were and what was said of them. Ends with status 1 and the smallest
input that it finds for which something else happens: an exception, another warning, a vector that
is not finite or not its own, or more than ten seconds.
"""

from __future__ import annotations

import argparse
import copy
import io
import pickle
import re
import signal
import sys
import tempfile
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from sklearn.preprocessing import FunctionTransformer

from skmars import ItemCatalog, MultimodalEncoder
from skmars.encoding import ImageStatisticsEncoder, TfidfEncoder, clear_memory_cache
from skmars.encoding._content import UnusableContent, digest

SECONDS = 10  # an input may take

# --- inputs ------------------------------------------------------------------------------------


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _files() -> list[bytes]:
    rng = np.random.default_rng(0)
    color = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    clear = Image.fromarray(rng.integers(0, 256, (7, 9, 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 2**16, (7, 9), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    moving = {"save_all": True, "append_images": [color.rotate(180)]}
    return [
        _saved(color, "PNG"), _saved(clear, "PNG"), _saved(deep, "PNG"),
        _saved(color.convert("P"), "PNG", transparency=3), _saved(color, "PNG", exif=exif),
        _saved(color, "JPEG", exif=exif), _saved(color.convert("CMYK"), "JPEG"),
        _saved(color, "JPEG", progressive=True), _saved(color, "GIF", **moving),
        _saved(color, "WEBP"), _saved(clear, "WEBP", lossless=True),
        _saved(color, "WEBP", **moving),
        _saved(color, "TIFF"), _saved(deep, "TIFF", compression="tiff_lzw"), _saved(color, "BMP"),
        _saved(color, "ICO"), _saved(color, "TGA"), _saved(color, "PPM"), _saved(color, "PCX"),
    ]  # fmt: skip


FILES = _files()


DAMAGES = ["change", "change", "flip", "cut", "double", "insert", "truncate"]


@st.composite
def damaged(draw: st.DrawFn, files: st.SearchStrategy[bytes]) -> bytes:
    """Some file with a few damages: bytes changed, cut out, doubled or put in."""
    data = bytearray(draw(files))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.sampled_from([1, 1, 2, 4, 64])))
        match draw(st.sampled_from(DAMAGES)):
            case "change":
                data[at:end] = draw(st.binary(min_size=end - at, max_size=end - at))
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:end]
            case "double":
                data[at:at] = data[at:end]
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "truncate":
                del data[at:]
    return bytes(data)


modes = ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F", "RGBX"]


@st.composite
def images(draw: st.DrawFn) -> Image.Image:
    """An image of Pillow, of any mode and small size, with what may stand beside the pixels."""
    size = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    mode = draw(st.sampled_from(modes))
    image = Image.new(mode, size)
    if image.width * image.height:
        pixels = len(image.tobytes())
        image.frombytes(draw(st.binary(min_size=pixels, max_size=pixels)))
    if mode == "P" and draw(st.booleans()):
        image.putpalette(
            draw(st.binary(min_size=12, max_size=12)), draw(st.sampled_from(["RGB", "RGBA"]))
        )
    noise = st.one_of(st.integers(0, 300), st.binary(max_size=40), st.text(max_size=5), st.none())
    names = st.sampled_from(["transparency", "exif", "dpi", "xmp", "icc_profile", "background"])
    image.info.update(draw(st.dictionaries(names, noise, max_size=2)))
    return image


def arrays() -> st.SearchStrategy[np.ndarray]:
    dtypes = st.one_of(
        st.just(np.dtype(np.uint8)),
        npst.scalar_dtypes(),
        npst.array_dtypes(max_size=2),
        st.just(np.dtype(object)),
    )
    shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    return dtypes.flatmap(lambda dtype: npst.arrays(dtype, shapes, **_elements(dtype)))


def _elements(dtype: np.dtype) -> dict[str, Any]:
    return {"elements": st.one_of(st.integers(), st.text(max_size=3))} if dtype.hasobject else {}


class Hostile:
    """Every method raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("hands off")

    __len__ = __iter__ = __str__ = __bool__ = __array__ = lambda self, *args: 1 / 0


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(),
    st.text(st.characters(), max_size=8), st.binary(max_size=80), st.dates(), st.decimals(),
    st.fractions(), st.uuids(), arrays(),
)  # fmt: skip
keys = st.one_of(st.text(max_size=4), st.integers(), st.booleans())
nested = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.frozensets(st.one_of(st.text(max_size=4), st.integers()), max_size=4),
        st.lists(inner, min_size=1, max_size=3).map(lambda x: np.array([*x, None], object)[:-1]),
    ),
    max_leaves=12,
)
anything = st.one_of(nested, st.builds(Hostile), st.builds(lambda: iter(())), st.builds(object))
pictures = st.one_of(
    damaged(st.sampled_from(FILES)), damaged(st.sampled_from(FILES)), images(), arrays(), anything,
    st.sampled_from(["/dev/zero", "/dev/stdin", ".", "/dev/null", "/proc/self/mem", "\0", "/"]),
    st.text(st.characters(), max_size=20), st.binary(max_size=60),
)  # fmt: skip
any_text = st.text(st.characters(), max_size=30)
odd_parts = ["a", "train", "\ud800", "\udfff", "\0", "\u202e", "e\u0301", "ﬁ", "\n", " "]
texts = st.one_of(
    any_text, any_text, st.lists(st.sampled_from(odd_parts)).map("".join),
    st.text(st.characters(categories=["Cs", "Cn", "Co", "Zs", "Cc"]), max_size=5),
    anything,
)  # fmt: skip


@st.composite
def changes(draw: st.DrawFn) -> tuple[Any, Any]:
    """A nested value, and the same after one change."""
    value = draw(nested)
    return value, _changed(copy.deepcopy(value), draw)


def _changed(value: Any, draw: st.DrawFn) -> Any:
    """Change a value in one place, on some level."""
    if isinstance(value, list | tuple) and value and draw(st.booleans()):
        at, new = draw(st.integers(0, len(value) - 1)), list(value)
        new[at] = _changed(new[at], draw)
        return type(value)(new)
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(list(value)))
        return {**value, key: _changed(value[key], draw)}
    if isinstance(value, np.ndarray) and value.size:
        at = draw(st.integers(0, value.size - 1))
        new = np.ascontiguousarray(value).reshape(-1).copy()
        if value.dtype.hasobject:
            new[at] = _changed(new[at], draw)
        elif value.dtype.itemsize:
            new[at : at + 1].view(np.uint8)[draw(st.integers(0, value.dtype.itemsize - 1))] ^= 1
            if value.dtype.kind in "?":
                new = ~value.reshape(-1)
        else:
            return [value]
        return new.reshape(value.shape)
    if type(value) is bool:
        return not value
    if type(value) is int:
        return value + 1
    if type(value) in (str, bytes):
        at = draw(st.integers(0, len(value)))
        return value[:at] + (b"x" if isinstance(value, bytes) else "x") + value[at:]
    return draw(st.sampled_from([[value], (value,), {"": value}]))


# --- what must hold ----------------------------------------------------------------------------


class Hang(BaseException):
    """Not an Exception, which the library may catch."""


@contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Let what takes longer fail."""

    def stop(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Hang:
        raise AssertionError(f"takes more than {seconds} seconds") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fitted(name: str, encoder: Any, values: list[Any]) -> tuple[Any, Any, str]:
    """Fit twice, the second time without a cache; return vectors, masks and the warning."""
    found = []
    for _ in range(2):
        clear_memory_cache()
        with warnings.catch_warnings(record=True) as caught, limited():
            warnings.simplefilter("always")
            catalog = ItemCatalog(range(len(values)), content={name: _column(values)})
            catalog = MultimodalEncoder({name: encoder}).fit(catalog).catalog_
        messages = [str(warning.message) for warning in caught]
        assert all(message.startswith("Masked items with no usable") for message in messages), (
            messages
        )
        assert len(messages) <= 1, messages
        found.append((catalog.features[name], catalog.missing[name], "".join(messages)))
    (matrix, missing, message), (again, missing_again, _) = found
    np.testing.assert_array_equal(missing, missing_again)
    np.testing.assert_array_equal(matrix, again)
    assert np.isfinite(matrix).all()
    assert not matrix[missing].any()
    for i in np.flatnonzero(missing):
        # Beyond the first three of one problem, dots stand for the others.
        assert re.search(rf"\b{i}(, \d+)*(, \.\.\.)?: |, \.\.\.: ", message), message
    return matrix, missing, message


def _column(values: list[Any]) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        column[i] = value
    return column


def _said(message: str) -> str:
    """Return the reason in a warning, without what differs from input to input."""
    reason = message.partition(": 1 of ")[2].partition(": ")[2].partition("). Their")[0]
    return re.sub(r"'[^']*'|b'.*|[0-9]+", "…", reason)[:60] or "no content"


GOOD = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def check_picture(value: Any) -> str:
    matrix, missing, message = fitted("image", ImageStatisticsEncoder(8), [GOOD, value])
    assert not missing[0]
    if missing[1]:
        return f"masked: {_said(message)}"
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), np.linalg.norm(matrix[0]), atol=1)
    return "encoded"


def check_text(value: Any) -> str:
    _, missing, message = fitted("text", TfidfEncoder(4), ["a red train", "a doll", value])
    assert not missing[:2].any()
    sound = type(value) is str and bool(value.strip())
    try:
        sound = sound and bool(value.encode())
    except UnicodeEncodeError:
        sound = False
    assert sound == (not missing[2])
    return f"masked: {_said(message)}" if missing[2] else "encoded"


def number_of(value: Any) -> float:
    """Return what tells values apart, otherwise than by their digest."""
    with np.printoptions(threshold=sys.maxsize):
        return zlib.crc32(pickle.dumps(pickle.loads(pickle.dumps(value)))) % 2**20


def check_raw(values: list[Any]) -> str:
    numbers = FunctionTransformer(lambda X: [[number_of(x)] for x in X])
    matrix, missing, message = fitted("audio", numbers, ["there is one", *values])
    for value, row, masked in zip(values, matrix[1:], missing[1:]):
        if not masked:
            assert row[0] == number_of(value), "has the vector of another content"
    return f"masked: {_said(message)}" if missing.any() else "encoded"


def _digest_or_none(value: Any) -> bytes | None:
    with limited():
        try:
            return digest([value], "raw")
        except UnusableContent:
            return None


def check_digest(pair: tuple[Any, Any]) -> str:
    one, other = map(_digest_or_none, pair)
    assert one == _digest_or_none(copy.deepcopy(pair[0])), "a copy has another digest"
    assert one == _digest_or_none(pickle.loads(pickle.dumps(pair[0]))), (
        "a pickle has another digest"
    )
    assert one is None or one != other, f"the digest of {pair[1]!r} is the same"
    return "refused" if one is None else "told apart"


class Folder:
    """A cache folder that is filled once, and damaged again and again."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()  # removed with this object
        self.path = Path(self._directory.name)
        self.encoder = MultimodalEncoder(
            {"text": TfidfEncoder(3), "title": HashedTexts}, cache=self.path
        )
        words = [f"{i} {i % 4}" for i in range(9)]
        self.catalog = ItemCatalog(range(9), content={"text": words, "title": words[::-1]})
        clear_memory_cache()
        self.expected = self.encoder.fit(self.catalog).catalog_.features
        self.whole = {file: file.read_bytes() for file in self._files()}

    def _files(self) -> list[Path]:
        return sorted(f for f in self.path.rglob("*") if f.is_file() and f.name != "lock")

    def check(self, damages: list[tuple[int, bytes]]) -> str:
        files = self._files()
        for which, data in damages:
            files[which % len(files)].write_bytes(data)
        for _ in range(2):
            clear_memory_cache()
            with limited(), warnings.catch_warnings():
                warnings.simplefilter("error")
                again = self.encoder.fit(self.catalog)
            for name, matrix in self.expected.items():
                np.testing.assert_array_equal(again.catalog_.features[name], matrix)
        assert again.n_encoded_ == {"text": 0, "title": 0}, "the files were not replaced"
        return "replaced"


HashedTexts = FunctionTransformer(lambda X: [[zlib.crc32(x.encode()) % 999] for x in X])


def checks() -> dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], str]]]:
    """Return the inputs of each kind, and what checks one of them."""
    folder = Folder()
    wholes = st.sampled_from(list(folder.whole.values()))
    return {
        "pictures": (pictures, check_picture),
        "texts": (texts, check_text),
        "raw": (st.lists(anything, min_size=1, max_size=4), check_raw),
        "digests": (changes(), check_digest),
        "cache": (
            st.lists(st.tuples(st.integers(0, 9), damaged(wholes)), max_size=3),
            folder.check,
        ),
    }


def fuzz(kind: str, n: int, number: int | None = None, report: Counter[str] | None = None) -> None:
    """Check `n` inputs of a kind; hypothesis raises for the smallest that fails.

    Parameters
    ----------
    kind : str
        A key of `checks`.
    n : int
    number : int, default=None
        Seed; None draws the same inputs every time.
    report : Counter, default=None
        Counts what was said.
    """
    inputs, check = checks()[kind]

    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=number is None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        print_blob=True,
    )
    @given(inputs)
    def run(value: Any) -> None:
        said = check(value)
        if report is not None:
            report[said] += 1

    (run if number is None else seed(number)(run))()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if something fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", help="all by default")
    parser.add_argument("--n", type=int, default=10_000, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    failed = 0
    for kind in options.kinds or checks():
        report: Counter[str] = Counter()
        try:
            fuzz(kind, options.n, options.seed, report)
        except Exception:
            failed = 1
            traceback.print_exc()
        print(f"{kind}: {report.total():,} inputs{' until one FAILED' if failed else ''}")
        for said, count in report.most_common(25):
            print(f"  {count:7,}  {said}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
