"""Broken content never stops a fit; an encoder that fails on good content does."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmars import ItemCatalog, MultimodalEncoder
from skmars.data._images import UnusableContent, image_bytes, load_image
from skmars.encoding import ImageStatisticsEncoder, TfidfEncoder


class Hostile:
    """Every method raises."""

    def __getattribute__(self, name):
        raise RuntimeError("hands off")

    __eq__ = __len__ = __iter__ = __str__ = __repr__ = __bool__ = __array__ = __fspath__ = (
        lambda self, *args: 1 / 0
    )
    __hash__ = None


def made(bad):
    """Return an object of a class (that pytest can't print)."""
    return Hostile() if bad is Hostile else bad


class HostileText(str):
    __slots__ = ()

    def strip(self):
        raise RuntimeError("hands off")

    encode = lower = __str__ = __len__ = __iter__ = strip


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
GOOD_PICTURES = [NOISE, saved(NOISE, "PNG"), np.asarray(NOISE)]
BAD_PICTURES = {
    "damaged EXIF block": saved(NOISE, "JPEG", exif=b"Exif\0\0hello world...."),
    "EPS, which is a program": saved(NOISE, "EPS"),
    "an image without any": Image.new("RGB", (0, 4)),
    "array of dtype float64": np.full((4, 4, 3), np.nan),
    "array of dtype object": np.array([[None, 1]], dtype=object),
    "array of dtype uint8 and shape .0,.": np.zeros(0, dtype=np.uint8),
    "0 x 3 pixels": np.zeros((3, 0, 3), dtype=np.uint8),
    "truncated|broken|Truncated": saved(NOISE, "PNG")[:-200],
    "cannot identify": b"<html>404</html>",
    "int instead of an image": 7,
    "list instead of an image": [[1, 2], [3]],
    "Hostile": Hostile(),
    "No such file": "nowhere.png",
    "null byte": "a\0b.png",
    "File name too long": "a" * 5000,
    "decompression bomb": saved(Image.new("1", (20_000, 20_000)), "PNG"),
}
BAD_TEXTS = {
    "float instead of a text": 7.5,
    "bytes instead of a text": b"words",
    "list instead of a text": ["a", ["b"]],
    "half a character at position 4": "word\ud800",
    "Hostile": Hostile(),
}


def closed_image() -> Image.Image:
    image = Image.open(io.BytesIO(saved(NOISE, "PNG")))
    image.fp.close()
    return image


def fitted(encoder, good, bad, name):
    """Fit on good contents with a bad one among them; check that it alone is masked."""
    values = [*good[:1], made(bad), *good[1:]]
    catalog = ItemCatalog(range(len(values)), content={name: values})
    with pytest.warns(UserWarning, match="Masked items") as caught:
        encoder = MultimodalEncoder({name: encoder}, batch_size=2).fit(catalog)
    assert len(caught) == 1, [str(w.message) for w in caught]
    assert f"{name}: 1 of {len(values)} items (1: " in str(caught[0].message)
    assert encoder.missing_[name].tolist() == [1]
    assert encoder.catalog_.features[name][[0, 2, 3]].any(axis=1).all()
    return str(caught[0].message)


@pytest.mark.parametrize("name", ["image", "poster"])
@pytest.mark.parametrize("reason", BAD_PICTURES)
def test_bad_pictures_are_masked(reason, name):
    message = fitted(ImageStatisticsEncoder(), GOOD_PICTURES, BAD_PICTURES[reason], name)
    assert any(word in message for word in [*reason.split("|"), "hands off", "shape (0,)"])


def test_a_picture_whose_file_is_closed_is_masked():
    fitted(ImageStatisticsEncoder(), GOOD_PICTURES, closed_image(), "image")


@pytest.mark.parametrize("name", ["text", "plot"])
@pytest.mark.parametrize("reason", BAD_TEXTS)
@pytest.mark.parametrize(
    "encoder", [TfidfEncoder(), make_pipeline(TfidfEncoder(), FunctionTransformer())]
)
def test_bad_texts_are_masked(reason, name, encoder):
    good = ["a red train", "a blue train", "a red doll"]
    message = fitted(encoder, good, BAD_TEXTS[reason], name)
    assert reason in message or "hands off" in message


def test_texts_that_overwrite_the_methods_of_texts_are_texts():
    catalog = ItemCatalog([1, 2], content={"text": ["a b", HostileText("b c")]})
    assert MultimodalEncoder().fit(catalog).missing_["text"].tolist() == []


@pytest.mark.parametrize(
    "encoder", [TfidfVectorizer(), FunctionTransformer(lambda X: [[len(x.encode()), 1] for x in X])]
)
@pytest.mark.parametrize("bad", ["word\ud800 a", 7, [1, [2]], Hostile])
def test_an_encoder_that_does_not_say_what_it_takes_masks_what_is_odd(encoder, bad):
    """Contents are raw then: what the encoder fails on, and is not like the others."""
    if not (isinstance(encoder, TfidfVectorizer) and isinstance(bad, str)):  # which it takes
        fitted(encoder, ["a red train", "a blue train", "a red doll"], bad, "plot")


class Spectrum(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.mean_ = np.nanmean(np.stack(X), axis=0)
        return self

    def transform(self, X):
        return np.stack(X) - self.mean_


WAVES = list(np.random.default_rng(0).normal(size=(4, 3)))
BAD_WAVES = [
    "a string", [1.0, [2.0]], np.zeros(4), np.array([1.0, np.nan, 2.0]), {"wave": 1}, Hostile, 7,
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_WAVES, ids=lambda bad: str(type(bad).__name__))
@pytest.mark.parametrize(
    "encoder", [Spectrum(), FunctionTransformer(np.stack)], ids=["fitted", "function"]
)
@pytest.mark.parametrize("batch_size", [1, 64])
def test_raw_content_that_is_not_like_the_others_is_masked(bad, encoder, batch_size):
    # The first batch tells how long vectors are.
    values = [made(bad), *WAVES] if batch_size > 1 else [*WAVES, made(bad)]
    at = 0 if batch_size > 1 else 4
    catalog = ItemCatalog(range(5), content={"audio": values})
    with pytest.warns(UserWarning, match=f"audio: 1 of 5 items .{at}: ") as caught:
        encoder = MultimodalEncoder({"audio": encoder}, batch_size=batch_size).fit(catalog)
    assert len(caught) == 1
    assert encoder.missing_["audio"].tolist() == [at]
    with pytest.warns(UserWarning, match="audio: 1 of 2 items .9: "):
        later = encoder.transform(ItemCatalog([8, 9], content={"audio": [None, made(bad)]}))
    assert later.missing["audio"].tolist() == [True, True]


def test_pictures_that_a_raw_encoder_opens_itself(tmp_path):
    for i in range(4):
        NOISE.rotate(90 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"<html>")

    def colours(X):
        return [np.asarray(Image.open(x)).mean(axis=(0, 1)) for x in X]

    for bad in (tmp_path / "1.png", tmp_path / "no.png"):
        good = [tmp_path / f"{i}.png" for i in (0, 2, 3)]
        fitted(FunctionTransformer(colours), good, bad, "poster")


# --- what is no file ------------------------------------------------------------------------------


@pytest.fixture
def no_files(tmp_path):
    """Paths on which a reader would wait for ever, or read without end."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "to_fifo").symlink_to(tmp_path / "fifo")
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(2**40)
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tmp_path)  # names of sockets are short
    server.bind("socket")
    os.chdir(here)
    names = ["fifo", "loop", "zero", "to_fifo", "huge.png", "socket"]
    yield [*(tmp_path / name for name in names), tmp_path, "/dev/zero", "/dev/stdin", "/dev/no"]
    server.close()


@pytest.mark.timeout(20)
def test_what_is_no_file_is_masked_at_once(no_files):
    catalog = ItemCatalog(range(11), content={"image": [NOISE, *map(str, no_files)]})
    with pytest.warns(UserWarning, match="image: 10 of 11 items"):
        MultimodalEncoder().fit(catalog)
    assert "(picture unreadable)" in catalog._repr_html_()
    for path in no_files:
        with pytest.raises(UnusableContent, match=r"No such|directory|not a file|symbolic|bytes"):
            load_image(path)
    lengths = FunctionTransformer(lambda X: [[len(str(x))] for x in X])
    catalog = ItemCatalog(range(12), content={"audio": ["a", Path("/"), *no_files]})
    with pytest.warns(UserWarning, match="audio: [89] of 12 items"):
        encoder = MultimodalEncoder({"audio": lengths}).fit(catalog)
    # What leads nowhere is a text; what standard input is depends on who runs the test.
    assert set(encoder.missing_["audio"]) - {10} == set(range(12)) - {0, 3, 10, 11} | {1}


def test_a_file_may_be_as_large_as_its_picture_can_be(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(NOISE, "PNG") + bytes(2**21))
    assert load_image(path).size == (16, 16)
    with pytest.raises(UnusableContent, match="bytes, more than the 1,050,624 that are read"):
        load_image(path, 256)


# --- pictures that look odd but are good ----------------------------------------------------------


def test_every_kind_of_good_picture_is_read():
    frames = [NOISE, NOISE.rotate(90)]
    transparent = Image.new("P", (4, 4), 0)
    transparent.putpalette([0, 0, 0, 0], "RGBA")
    ones = np.tile(np.linspace(0, 1, 16, dtype=np.float32), (4, 1))
    pictures = {
        "animated": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "CMYK": saved(NOISE.convert("CMYK"), "JPEG"),
        "16 bit": saved(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)), "PNG"),
        "float": Image.fromarray(ones),
        "a colour is transparent": saved(NOISE, "PNG", transparency=NOISE.getpixel((0, 0))),
    }
    for value in pictures.values():
        assert load_image(value).mode == "RGB"
    assert np.asarray(load_image(transparent)).min() == 255
    assert load_image(pictures["a colour is transparent"]).getpixel((0, 0)) == (255, 255, 255)
    assert load_image(pictures["float"]).getextrema() == ((0, 255),) * 3


def test_loading_leaves_the_picture_of_the_caller_alone():
    image = NOISE.copy()
    load_image(image).putpixel((0, 0), (1, 2, 3))
    assert image == NOISE


# --- encoders with a bug ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [(KeyError("x"), RuntimeError), (ZeroDivisionError("x"), RuntimeError),
     (ValueError("x"), ValueError), (TypeError("x"), TypeError), (OSError("x"), OSError),
     (ImportError("x"), ImportError)],
)  # fmt: skip
@pytest.mark.parametrize(
    ("name", "values"),
    [("text", ["good", "bad", "fine"]), ("image", GOOD_PICTURES[:1] + [Image.new("L", (3, 3))] * 2),
     ("audio", [WAVES[0], np.ones(3), WAVES[1]])],
)  # fmt: skip
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_an_exception_for_good_content_is_an_error_that_names_the_modality(
    error, kind, name, values, method
):
    class Buggy(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.n_ = self.work(X, "fit")
            return self

        def transform(self, X):
            return self.work(X, "transform")

        def work(self, X, where):
            if where == method and any(self.is_hit(x) for x in X):
                raise error
            return [[1.0] for _ in X]

        def is_hit(self, x):
            if name == "audio":
                return bool((x == 1).all())
            return x == "bad" if name == "text" else x.size == (3, 3)

    encoder = MultimodalEncoder({name: Buggy()}, batch_size=2)
    before = set(vars(encoder))
    with pytest.raises(
        kind, match=rf"The {name} encoder (failed|could not be fitted).*x"
    ) as caught:
        encoder.fit(ItemCatalog([7, 8, 9], content={name: values}))
    assert caught.value.__cause__ is error
    assert set(vars(encoder)) == before


@pytest.mark.parametrize("vectors", [[[1j]], [["a"]], [[[1.0], [2.0]]], [{}], None, [[1e300]]])
def test_what_an_encoder_returns_is_checked(vectors):
    encoder = MultimodalEncoder({"text": FunctionTransformer(lambda X: vectors)})
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"The text (vectors|encoder)"):
        encoder.fit(ItemCatalog([1], content={"text": ["a"]}))


@pytest.mark.parametrize("bad", ["word", {}, Hostile, [[1.0], 2.0], [1.0, None]])
def test_precomputed_vectors_that_are_none(bad):
    catalog = ItemCatalog([1, 2], content={"audio": [[1.0, 2.0], made(bad)]})
    with pytest.raises(ValueError, match="audio"):
        MultimodalEncoder({"audio": "precomputed"}).fit(catalog)


def test_counting_words_still_works_in_a_modality_of_another_name():
    catalog = ItemCatalog([1, 2], content={"plot": ["a red train", "a doll"]})
    assert MultimodalEncoder({"plot": CountVectorizer()}).fit(catalog).n_encoded_ == {"plot": 2}


def test_a_picture_that_is_a_line_costs_a_pretrained_model_no_more_than_others():
    from skmars.encoding._pretrained import _middle

    assert _middle(Image.new("RGB", (60_000, 2))).size == (32, 2)
    assert _middle(NOISE).size == NOISE.size


def test_a_file_from_which_nothing_comes_yet_is_masked(monkeypatch):
    silent = MagicMock()
    silent.__enter__.return_value.read.return_value = None  # as a log of the kernel
    monkeypatch.setattr("skmars.data._images.open_file", lambda *_: silent)
    assert image_bytes("log", 100) == b""
