"""A small catalogue with texts and pictures, and an encoder that counts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin

from skmars import Impressions, ItemCatalog
from skmars.encoding import clear_memory_cache

WORDS = ["red", "blue", "train", "doll", "wood", "card", "game", "ball", "bear", "drum"]


@pytest.fixture(autouse=True)
def forget():
    """Every test starts as a new process would: with nothing in the memory cache."""
    clear_memory_cache()
    CountingEncoder.encoded.clear()
    CountingFitted.fits.clear()
    yield
    clear_memory_cache()


class Log(list):
    """What encoders write down; no part of what they compute, so it has no content of its own."""

    def __reduce_ex__(self, protocol):
        return Log, ()


class CountingEncoder(TransformerMixin, BaseEstimator):
    """A stateless encoder of texts; remembers what it was asked to encode."""

    encoded: ClassVar[Log] = Log()

    def __init__(self, scale=1.0):
        self.scale = scale

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        type(self).encoded.extend(X)
        return np.array([[len(x), sum(map(ord, x)), x.count("a")] for x in X]) * self.scale

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


class CountingFitted(TransformerMixin, BaseEstimator):
    """An encoder of texts that depends on what it was fitted on; remembers its fits."""

    fits: ClassVar[Log] = Log()

    def fit(self, X, y=None):
        type(self).fits.append(len(X))
        self.mean_ = np.mean([len(x) for x in X])
        return self

    def transform(self, X):
        CountingEncoder.encoded.extend(X)
        return np.array([[len(x) - self.mean_] for x in X])


@pytest.fixture
def counting() -> type[CountingEncoder]:
    return CountingEncoder


@pytest.fixture
def counting_fitted() -> type[CountingFitted]:
    return CountingFitted


def picture(seed: int, size: tuple[int, int] = (20, 30)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures; the last three are empty, cut off, and no picture at all."""
    path = tmp_path / "posters"
    path.mkdir()
    for i in range(12):
        picture(i).save(path / f"{i}.png")
    (path / "9.png").write_bytes(b"")
    whole = (path / "10.png").read_bytes()
    (path / "10.png").write_bytes(whole[: len(whole) // 2])
    (path / "11.png").write_text("<html>404</html>")
    return path


def make_items(folder: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(12)]
    texts[0], texts[1] = None, "  "
    return pd.DataFrame(
        {
            "item_id": np.arange(100, 112),
            "title": [f"item {i}" for i in range(12)],
            "text": texts,
            "image": [str(folder / f"{i}.png") for i in range(12)],
        }
    )


@pytest.fixture
def catalog(folder) -> ItemCatalog:
    return ItemCatalog.from_frame(make_items(folder))


@pytest.fixture
def data(catalog) -> tuple[Impressions, np.ndarray]:
    rng = np.random.default_rng(1)
    log = pd.DataFrame(
        {
            "user_id": rng.integers(0, 8, 80),
            "item_id": rng.integers(100, 112, 80),
            "timestamp": np.arange(80),
            "liked": rng.integers(0, 2, 80),
            "hour": rng.integers(0, 24, 80),
        }
    )
    return Impressions.from_log(log, catalog, label="liked", context=["hour"])
