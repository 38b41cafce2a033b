"""Every content is encoded once by an encoder, whatever is fitted around it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skmars import ItemCatalog, MultimodalEncoder
from skmars.data._digest import NoDigest
from skmars.encoding import TfidfEncoder, _cache, clear_memory_cache
from skmars.encoding._fingerprint import fingerprint

pytestmark = pytest.mark.filterwarnings("ignore:Masked items:UserWarning")


class Popularity(ClassifierMixin, BaseEstimator):
    """Needs no more of the impressions than that they are encoded."""

    def __init__(self, theta=0.0):
        self.theta = theta

    def fit(self, X, y):
        assert X.catalog.features
        self.classes_, self.rate_ = np.unique(y), np.mean(y)
        return self

    def predict(self, X):
        assert X.catalog.features
        return np.full(len(X), int(self.rate_ > self.theta))


def texts(*values):
    return ItemCatalog(range(len(values)), content={"text": list(values)})


# --- in memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [False, True])
def test_a_grid_encodes_each_item_once(data, counting, memory, tmp_path):
    X, y = data
    steps = [("encode", MultimodalEncoder({"text": counting()})), ("ctr", Popularity())]
    pipeline = Pipeline(steps, memory=joblib.Memory(tmp_path, verbose=0) if memory else None)
    grid = {"ctr__theta": [0.1, 0.2, 0.3], "encode__batch_size": [3, 64]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    cross_val_predict(search.best_estimator_, X, y, cv=3)
    assert sorted(counting.encoded) == sorted(set(X.catalog.content["text"][2:]))


def test_a_fitted_encoder_is_fitted_once_for_the_same_content(data, counting, counting_fitted):
    X, y = data
    encoder = MultimodalEncoder({"text": counting_fitted()})
    first, second = encoder.fit(X[:40], y[:40]), clone(encoder).fit(X[40:], y[40:])
    assert counting_fitted.fits == [10]
    assert second.n_encoded_ == {"text": 0}
    assert first.catalog_.features["text"] is second.catalog_.features["text"]
    other = X.catalog.content["text"].copy()
    other[5] = "quite another text"
    third = clone(encoder).fit(ItemCatalog(X.catalog.ids, content={"text": other}))
    assert counting_fitted.fits == [10, 10]  # other content, another fit
    counting.encoded.clear()
    third.transform(X)  # its own encoder on items that it has seen, but one
    assert counting.encoded == [X.catalog.content["text"][5]]


def test_only_new_items_are_encoded(counting):
    encoder = MultimodalEncoder({"text": counting()}).fit(texts("a", "b", "a", None))
    assert encoder.n_encoded_ == {"text": 2}
    more = encoder.transform(texts("c", "b", "a"))
    assert counting.encoded == ["a", "b", "c"]
    np.testing.assert_array_equal(more.features["text"][2], encoder.catalog_.features["text"][0])
    assert MultimodalEncoder({"text": counting()}).fit(texts("c")).n_encoded_ == {"text": 0}
    assert MultimodalEncoder({"text": counting(2.0)}).fit(texts("c")).n_encoded_ == {"text": 1}


def test_all_candidates_share_one_matrix(catalog):
    """Also where items are missing, and after new items made the store grow."""
    first = MultimodalEncoder().fit(catalog).catalog_
    second = MultimodalEncoder().fit(catalog).catalog_
    for name, matrix in first.features.items():
        assert second.features[name] is matrix
        with pytest.raises(ValueError, match="read-only"):
            matrix[0] = 1


def test_vectors_are_stored_once_in_memory(catalog):
    encoder = MultimodalEncoder().fit(catalog)
    for name in ("text", "image"):
        encoded = _cache.encoded_by(encoder._fitted[name].encoder.key)
        matrix = encoder.catalog_.features[name]
        assert all(vector.base is matrix for vector in encoded.rows.values())


def test_the_memory_cache_is_bounded(counting, monkeypatch):
    monkeypatch.setattr(_cache, "MAX_BYTES", 30)
    for scale in (1.0, 2.0, 3.0):
        MultimodalEncoder({"text": counting(scale)}).fit(texts("a", "b"))
    assert MultimodalEncoder({"text": counting(3.0)}).fit(texts("a")).n_encoded_ == {"text": 0}
    assert MultimodalEncoder({"text": counting(1.0)}).fit(texts("a")).n_encoded_ == {"text": 1}


def test_threads_wait_for_each_other(counting, data):
    X, y = data
    encoder = MultimodalEncoder({"text": counting()}, batch_size=1)
    threads = [threading.Thread(target=clone(encoder).fit, args=(X, y)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counting.encoded) == len(set(counting.encoded)) == 10


def test_an_interrupted_fit_goes_on_where_it_stopped(counting):
    patience = type(counting.encoded)([4])

    class Interrupted(counting):
        def transform(self, X):
            if len(self.encoded) >= patience[0]:
                raise KeyboardInterrupt
            return super().transform(X)

    catalog = texts(*"abcdefgh")
    encoder = MultimodalEncoder({"text": Interrupted()}, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        encoder.fit(catalog)
    assert not hasattr(encoder, "catalog_")
    patience[0] = 100
    assert encoder.fit(catalog).n_encoded_ == {"text": 4}
    assert len(counting.encoded) == 8


# --- on disk ----------------------------------------------------------------------------------


@pytest.fixture(params=["path", "memory"])
def cache(request, tmp_path):
    return tmp_path / "cache" if request.param == "path" else joblib.Memory(tmp_path, verbose=0)


def test_a_folder_outlives_the_process(catalog, cache, counting, counting_fitted):
    encoder = MultimodalEncoder({"text": counting_fitted(), "title": counting()}, cache=cache)
    first = encoder.fit(catalog).catalog_.features
    clear_memory_cache()
    again = clone(encoder).fit(catalog)
    assert again.n_encoded_ == {"text": 0, "title": 0}
    assert counting_fitted.fits == [10]
    for name, matrix in first.items():
        np.testing.assert_array_equal(again.catalog_.features[name], matrix)


def test_what_memory_holds_goes_to_a_folder_too(catalog, cache):
    MultimodalEncoder().fit(catalog)
    assert MultimodalEncoder(cache=cache).fit(catalog).n_encoded_ == {"text": 0, "image": 0}
    clear_memory_cache()
    assert MultimodalEncoder(cache=cache).fit(catalog).n_encoded_ == {"text": 0, "image": 0}


def test_damaged_and_deleted_files_are_encoded_again(catalog, tmp_path, counting):
    encoder = MultimodalEncoder({"text": TfidfEncoder(), "title": counting()}, cache=tmp_path / "c")
    first = encoder.fit(catalog).catalog_
    files = list((tmp_path / "c").rglob("*.npz")) + list((tmp_path / "c").rglob("*.joblib"))
    assert len(files) == 3
    for file in files:
        file.write_bytes(file.read_bytes()[:30])
    clear_memory_cache()
    again = encoder.fit(catalog)
    assert again.n_encoded_ == {"text": 10, "title": 12}
    np.testing.assert_array_equal(first.features["text"], again.catalog_.features["text"])
    for file in (tmp_path / "c").rglob("*.npz"):
        file.unlink()
    assert encoder.fit(catalog).n_encoded_ == {"text": 0, "title": 0}  # from memory ...
    clear_memory_cache()
    assert encoder.fit(catalog).n_encoded_ == {"text": 0, "title": 0}  # ... and stored once more


def test_worker_processes_share_a_folder(data, tmp_path):
    """Two workers that start at once: one encodes, the other waits and reads."""
    X, y = data
    cache = tmp_path / "cache"
    encoders = {"text": TfidfEncoder(4)}
    parallel = joblib.Parallel(n_jobs=2)
    jobs = [
        joblib.delayed(_fit_elsewhere)(MultimodalEncoder(encoders, cache=cache), X, y)
        for _ in range(4)
    ]
    assert sorted(parallel(jobs)) == [0, 0, 0, 10]
    assert len(list(cache.rglob("*.npz"))) == 1


def _fit_elsewhere(encoder, X, y):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return encoder.fit(X, y).n_encoded_["text"]


@pytest.fixture
def filled(tmp_path, counting):
    """A folder with vectors of two encoders and a fitted one, and what they are."""
    catalog = ItemCatalog(
        range(9), content={"text": [f"{i} {i % 4}" for i in range(9)], "title": list("abcdefghi")}
    )
    encoder = MultimodalEncoder(
        {"text": TfidfEncoder(3), "title": counting()}, cache=tmp_path / "cache"
    )
    expected = encoder.fit(catalog).catalog_.features
    return tmp_path / "cache", encoder, catalog, expected


def check(filled):
    """The vectors are right, whatever happened to the files; and the files are whole then."""
    _, encoder, catalog, expected = filled
    for _ in range(2):
        clear_memory_cache()
        again = clone(encoder).fit(catalog)
        for name, matrix in expected.items():
            np.testing.assert_array_equal(again.catalog_.features[name], matrix)
    assert again.n_encoded_ == {"text": 0, "title": 0}


def test_damaged_files_are_replaced(filled):
    """Bits flipped, cut off, appended to, emptied, filled with something else."""
    rng = np.random.default_rng(0)
    for _ in range(25):
        for file in [f for f in filled[0].rglob("*") if f.is_file() and f.name != "lock"]:
            data = bytearray(file.read_bytes() or b"nothing")
            match rng.integers(6):
                case 0 | 1:
                    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
                case 2:
                    del data[rng.integers(len(data)) :]
                case 3:
                    data += b"more"
                case 4:
                    data = rng.bytes(len(data))
            file.write_bytes(data)
        check(filled)


def test_swapped_files_are_replaced(filled):
    files = [file for file in filled[0].rglob("*") if file.is_file() and file.name != "lock"]
    contents = [file.read_bytes() for file in files]
    for shift in range(1, len(files)):
        for file, content in zip(files, [*contents[shift:], *contents[:shift]]):
            file.write_bytes(content)
        check(filled)


def test_files_of_other_shapes_are_not_used(filled):
    """Also where their seal is right: vectors of other types, of other lengths, of nothing."""
    path = next(filled[0].rglob("*.npz")).parent
    digest = [b"x" * 16]
    for vectors in (np.ones((1, 3)), np.ones((1, 3, 1), np.float32), np.ones((1, 0), np.float32)):
        encoded = _cache.Encoded()
        encoded.rows = dict(zip(digest, vectors))
        _cache.Folder(path).store(encoded, digest)
        check(filled)
    encoded = _cache.Encoded()
    encoded.add([b"a"], np.ones((1, 3), np.float32))
    encoded.add([b"b"], np.ones((1, 2), np.float32))
    assert b"b" not in encoded.rows


def test_what_is_no_file_is_not_waited_for(filled, tmp_path):
    for file in [*filled[0].rglob("*.npz"), *filled[0].rglob("*.joblib")]:
        file.unlink()
        os.mkfifo(file)
    check(filled)
    for file in filled[0].rglob("*.npz"):
        file.unlink()
        file.mkdir()
    check(filled)


KILLED = """
import os, signal, sys, threading
import numpy as np
from skmars.encoding import _cache
folder = _cache.Folder(__import__("pathlib").Path(sys.argv[1]))
save = np.savez
def killed(file, **arrays):
    save(file, **arrays)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
np.savez = killed
encoded = _cache.Encoded()
encoded.add([b"x" * 16], np.ones((1, 3), np.float32))
with folder.lock():
    folder.store(encoded, [b"x" * 16])
"""


def test_a_killed_process_leaves_nothing_behind(filled):
    path = next(filled[0].rglob("*.npz")).parent
    before = sorted(path.iterdir())
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert len(list(path.iterdir())) == len(before) + 1
    check(filled)
    assert sorted(path.iterdir()) == before


@pytest.mark.parametrize("place", ["file", "below a file", "read-only"])
def test_a_folder_that_can_not_be_used_is_an_error_that_says_so(place, tmp_path, counting):
    cache = tmp_path / "cache"
    if place == "read-only":
        cache.mkdir()
        cache.chmod(0o500)
        if os.access(cache, os.W_OK):  # as root
            cache = Path("/proc/cache")
    else:
        cache.write_text("mine")
        cache = cache / "x" if place == "below a file" else cache
    encoder = MultimodalEncoder({"text": counting()}, cache=cache)
    with pytest.raises(OSError, match="cache' of the cache can't be used|x' of the cache can't be"):
        encoder.fit(texts("a"))
    assert not hasattr(encoder, "catalog_")


def test_a_full_disk_is_an_error_that_says_so(filled, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="can't be used .*No space left on device"):
        filled[1].fit(ItemCatalog([1], content={"text": ["new"], "title": ["new"]}))
    assert not list(filled[0].rglob("*.part*"))


def test_an_encoder_that_can_not_be_pickled_is_fitted_in_every_process(tmp_path):
    class Local(TfidfEncoder):
        """Pickle does not find it."""

    encoder = MultimodalEncoder({"text": Local(2)}, cache=tmp_path)
    assert encoder.fit(texts("a b", "b c")).n_encoded_ == {"text": 2}
    assert clone(encoder).fit(texts("a b", "b c")).n_encoded_ == {"text": 0}
    clear_memory_cache()
    assert clone(encoder).fit(texts("a b", "b c")).n_encoded_ == {"text": 2}
    assert not list(tmp_path.rglob("*.npz"))


# --- what makes two encoders the same ------------------------------------------------------------


def test_the_fingerprint_follows_what_is_computed():
    same = [fingerprint(TfidfEncoder(4)), fingerprint(clone(TfidfEncoder(4)))]
    assert len(set(same)) == 1
    assert fingerprint(TfidfEncoder(5)) != same[0]
    watched = TfidfEncoder(4).set_output(transform="pandas")
    assert fingerprint(watched) == same[0]


def test_a_function_that_is_edited_is_another_one():
    def make(source):
        space = {}
        exec(source, space)
        return FunctionTransformer(space["f"])

    def closure(k):
        return FunctionTransformer(lambda X: [[k] for _ in X])

    one, two = make("f = lambda X: X"), make("f = lambda X: [2 * x for x in X]")
    assert fingerprint(one) != fingerprint(two)
    assert fingerprint(closure(1)) == fingerprint(closure(1)) != fingerprint(closure(2))


def test_what_has_no_content_is_encoded_every_time(counting, tmp_path):
    class Locked(counting):
        lock = threading.Lock()

    with pytest.raises(NoDigest, match="lock"):
        fingerprint(Locked())
    encoder = MultimodalEncoder({"text": Locked()}, cache=tmp_path / "c")
    for _ in range(2):
        with pytest.warns(UserWarning, match="text encoder are not cached.*cannot pickle.*lock"):
            assert encoder.fit(texts("a")).n_encoded_ == {"text": 1}
    assert not (tmp_path / "c").exists()
