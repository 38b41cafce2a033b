"""What was saved is loaded: equal to the bit, shared alike, and training goes on alike."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import skmars
from skmars import (
    ClickRateClassifier,
    ClickRateEncoder,
    DINClassifier,
    Impressions,
    ItemCatalog,
    MultimodalEncoder,
    PopularityClassifier,
    SequenceRetrievalAugmenter,
    SteinAligner,
    alignment,
    baselines,
    ctr,
    encoding,
    make_mars,
    make_multimodal_ctr,
    make_small_shop,
    rates,
    retrieval,
)
from skmars.alignment import LinearAligner
from skmars.retrieval import CosineNeighbors, HNSWNeighbors
from skmars.utils._folder._classes import class_named, known_names

from .equality import check_same

pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")

FAST = {
    **{"align__max_iter": 1, "align__n_components": 8, "align__id_dim": 4, "align__n_factors": 4},
    **{"ctr__max_iter": 2, "ctr__hidden_units": (8,), "ctr__attention_units": (4,)},
}
X, y = make_multimodal_ctr(n_users=50, n_items=30, random_state=0, history="all")
SHOP, SOLD = make_small_shop(n_users=60, random_state=0)
TABLE = np.random.RandomState(0).normal(size=(80, 6))
SIDE = (TABLE[:, 0] > 0).astype(int)
VECTORS = {"text": TABLE[:30, :3].astype(np.float32), "image": TABLE[:30, 3:]}
GIVEN = ItemCatalog(range(30), features={"vector": TABLE[:30]})
WITH_VECTORS = X.with_catalog(X.catalog.with_features(VECTORS))


def saved(obj: Any, folder: Path) -> Any:
    """Save an object, and load it."""
    skmars.save(obj, folder / "saved")
    return skmars.load(folder / "saved")


def din(**params: Any) -> DINClassifier:
    fast = {k.removeprefix("ctr__"): v for k, v in FAST.items() if k.startswith("ctr__")}
    return DINClassifier(**{**fast, "random_state": 0, **params})


# --- pipelines ----------------------------------------------------------------------------------


def rows_with_all_columns() -> tuple[Impressions, Any]:
    """Return rows with all that rows can have: attributes, context, times, ids of strings."""
    rng = np.random.RandomState(0)
    log = pd.DataFrame(
        {
            "user_id": [f"ü{u}" for u in rng.randint(0, 40, 600)],
            "item_id": [f"i{i}" for i in rng.randint(0, 30, 600)],
            "timestamp": np.arange(600.0),
            "clicked": rng.randint(0, 2, 600),
            "device": rng.choice(["app", "web"], 600),
            "hour": rng.randint(0, 24, 600),
        }
    )
    items = pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(30)],
            "title": [f"title {i}" if i else None for i in range(30)],
            "text": rng.choice(["red toy", "blue car", "green hat with a feather"], 30),
            "price": rng.uniform(size=30),
            "category": rng.choice(["a", "b", "c"], 30),
            "tags": [["x", "y"][: i % 3] for i in range(30)],
        }
    )
    catalog = ItemCatalog.from_frame(items, attributes=["price", "category", "tags"])
    X, y = Impressions.from_log(log, catalog, label="clicked", context=["device", "hour"])
    n = len(X.users)
    club = ["yes" if i % 3 else None for i in range(n)]
    return X.with_users(pd.DataFrame({"user_id": X.users, "age": range(n), "club": club})), y


def default() -> tuple[Pipeline, Any, Any]:
    return make_mars(random_state=0, rates=True, **FAST), X, y


def printed() -> tuple[Pipeline, Any, Any]:
    return make_mars("paper", random_state=0, **FAST), X, y


def with_all_columns() -> tuple[Pipeline, Any, Any]:
    return make_mars(random_state=np.random.RandomState(3), **FAST), *rows_with_all_columns()


def indexed() -> tuple[Pipeline, Any, Any]:
    pytest.importorskip("faiss")
    return make_mars(random_state=0, augment__neighbors=HNSWNeighbors(), **FAST), X, y


@pytest.mark.parametrize("make", [default, printed, with_all_columns, indexed])
def test_a_pipeline(make: Callable[[], tuple[Pipeline, Any, Any]], tmp_path: Path) -> None:
    mars, X, y = make()
    mars.fit(X, y)
    again = saved(mars, tmp_path)
    check_same(mars, again)
    check_same(again.get_params(), mars.get_params())
    np.testing.assert_array_equal(again.predict_proba(X), mars.predict_proba(X))
    clone(again)
    rows = mars[:-1].transform(X)
    for _ in range(2):  # what they learn from here on is the same, too
        for each in (mars, again):
            each[-1].partial_fit(rows, y)
        check_same(mars[-1], again[-1])
    np.testing.assert_array_equal(again.predict_proba(X), mars.predict_proba(X))
    first = skmars.load(tmp_path / "saved")  # and the folder is as it was
    assert first[-1].n_iter_ == again[-1].n_iter_ - 2


def test_what_is_shared_is_stored_once(tmp_path: Path) -> None:
    mars, X, y = default()
    mars.fit(X, y)
    again = saved(mars, tmp_path)
    encode = again.named_steps["encode"]
    assert encode.encoders_["text"] is encode._fitted["text"].encoder.transformer
    assert all(part is encode.catalog_ for part in encode._encoded_parts.values())
    assert encode._fitted["text"].items.values is encode.catalog_.content["text"]
    size = sum(path.stat().st_size for path in (tmp_path / "saved").iterdir())
    assert size < 1.2 * len(pickle.dumps(mars))


# --- each estimator alone ------------------------------------------------------------------------


def estimators() -> dict[str, Callable[[], Any]]:
    """Return functions that fit each public estimator, by name."""
    V = WITH_VECTORS
    aligner = {"n_components": 8, "id_dim": 4, "max_iter": 2, "random_state": 0}
    frame = pd.DataFrame({"a": TABLE[:, 0], "b": list("xyzw") * 20})
    columns = ColumnTransformer([("n", StandardScaler(), ["a"]), ("w", OneHotEncoder(), ["b"])])
    own = make_pipeline(TfidfVectorizer(), StandardScaler(with_mean=False))
    isotonic = CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2)
    return {
        "encoder": lambda: MultimodalEncoder().fit(X),
        "given vectors": lambda: MultimodalEncoder({"vector": "precomputed"}).fit(GIVEN),
        "own pipeline": lambda: MultimodalEncoder({"text": own}).fit(X),
        "text": lambda: encoding.TfidfEncoder(2).fit(["red toy", "blue car", "hat"] * 10),
        "image": encoding.ImageStatisticsEncoder,
        "sentences": lambda: encoding.SentenceTransformerEncoder("some/model"),
        "open_clip": lambda: encoding.OpenClipEncoder("ViT-B-32", "openai"),
        "timm": lambda: encoding.TimmImageEncoder("efficientnet_lite0"),
        "aligner": lambda: SteinAligner(**aligner).fit(V, y),
        "aligner of arrays": lambda: SteinAligner(**aligner).fit(TABLE),
        "cca": lambda: LinearAligner("cca").fit(V),
        "procrustes": lambda: LinearAligner("procrustes").fit(V),
        "mean of arrays": lambda: LinearAligner("mean").fit(TABLE),
        "augmenter": lambda: SequenceRetrievalAugmenter().fit(V),
        "rates": lambda: ClickRateEncoder().fit(X, y),
        "rates of a shop": lambda: ClickRateEncoder().fit(SHOP, SOLD),
        "regression of a shop": lambda: ClickRateClassifier().fit(SHOP, SOLD),
        "popularity": lambda: PopularityClassifier().fit(X, y),
        "random items": lambda: baselines.RandomItems(random_state=0).fit(X),
        "random sequence": lambda: baselines.RandomSequence(random_state=0).fit(X),
        "repeat": lambda: baselines.RepeatPad().fit(X),
        "edits": lambda: baselines.CropMaskReorder(random_state=0).fit(X),
        "more edits": lambda: baselines.CropMaskReorderSubstituteInsert(random_state=0).fit(X),
        "DIN": lambda: din().fit(X, y),
        "DIN of arrays": lambda: din().fit(TABLE, SIDE),
        "DIN of float32 arrays": lambda: din().fit(
            TABLE.astype(np.float32), np.array(["no", "yes"])[SIDE]
        ),
        "prelu": lambda: din(activation="prelu", borrowed="marked").fit(X, y),
        "relu": lambda: din(activation="relu", attention_normalization="softmax").fit(X, y),
        "sigmoid": lambda: din(activation="sigmoid", borrowed="joint").fit(X, y),
        "CL4SRec": lambda: din(auxiliary=baselines.CL4SRec()).fit(X, y),
        "CoSeRec": lambda: din(auxiliary=baselines.CoSeRec()).fit(X, y),
        "BASRec": lambda: din(auxiliary=baselines.BASRec()).fit(X, y),
        "neighbours of arrays": lambda: CosineNeighbors().fit(TABLE),
        "index of arrays": lambda: HNSWNeighbors().fit(TABLE),
        "calibrated of arrays": lambda: CalibratedClassifierCV(din(), cv=2).fit(TABLE, SIDE),
        "isotonic of arrays": lambda: isotonic.fit(TABLE, SIDE),
        "columns": lambda: make_pipeline(columns, LogisticRegression()).fit(frame, SIDE),
        "union": lambda: make_union(OrdinalEncoder(), OneHotEncoder()).fit(frame[["b"]]),
        "not fitted": make_mars,
    }


MAKE = estimators()
ROWS = {
    "DIN of float32 arrays": TABLE.astype(np.float32),
    "columns": pd.DataFrame({"a": TABLE[:, 0], "b": list("xyzw") * 20}),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_estimator(name: str, tmp_path: Path) -> None:
    if name.startswith("index"):
        pytest.importorskip("faiss")
    estimator = MAKE[name]()
    again = saved(estimator, tmp_path)
    check_same(estimator, again)
    check_same(again.get_params(), estimator.get_params())
    clone(again)
    usual: Any = TABLE if "arrays" in name else SHOP if "shop" in name else X
    rows = ROWS.get(name, usual)
    if hasattr(estimator, "predict_proba") and name != "not fitted":
        np.testing.assert_array_equal(again.predict_proba(rows), estimator.predict_proba(rows))
    elif name in ("aligner of arrays", "mean of arrays"):
        np.testing.assert_array_equal(again.transform(rows), estimator.transform(rows))
    elif hasattr(estimator, "kneighbors"):
        for a, b in zip(again.kneighbors(rows), estimator.kneighbors(rows)):
            np.testing.assert_array_equal(a, b)


def test_every_public_estimator_is_tried() -> None:
    public = {
        value
        for folder in (encoding, alignment, retrieval, rates, baselines, ctr)
        for value in map(vars(folder).get, folder.__all__)
        if isinstance(value, type) and issubclass(value, BaseEstimator)
    }
    tried = set()
    for name, make in MAKE.items():
        if not name.startswith("index"):
            estimator = make()
            tried |= {type(estimator), *map(type, estimator.get_params().values())}
    # The index of the latter is one of compiled functions, which only pickle can store.
    assert {c.__name__ for c in public - tried} == {"HNSWNeighbors", "NNDescentNeighbors"}


def test_known_classes_of_scikit_learn(tmp_path: Path) -> None:
    made = 0
    for name in sorted(known_names()):
        cls = class_named(name)  # each name is that of a class
        assert f"{cls.__module__}.{cls.__qualname__}" == name
        if not name.startswith("sklearn") or not issubclass(cls, BaseEstimator):
            continue
        given = {
            "CalibratedClassifierCV": {"estimator": LogisticRegression()},
            "ColumnTransformer": {"transformers": [("a", StandardScaler(), slice(0, 2))]},
            "FeatureUnion": {"transformer_list": [("a", StandardScaler())]},
            "FrozenEstimator": {"estimator": StandardScaler().fit(TABLE)},
            "Pipeline": {"steps": [("a", StandardScaler())]},
            "QuantileTransformer": {"n_quantiles": 10},
        }.get(cls.__name__, {})
        rows: Any = np.abs(TABLE)
        if "Label" in name:
            rows = SIDE
        elif "Vectorizer" in name:
            rows = ["red toy", "blue toy"] * 40
        elif "Isotonic" in name:
            rows = TABLE[:, 0]
        elif "TfidfTransformer" in name:
            rows = rows.round()
        if cls.__name__.startswith("_"):
            continue
        estimator = cls(**given).fit(*([rows] if "Label" in name else [rows, SIDE]))
        again = saved(estimator, tmp_path)
        check_same(estimator, again)
        for method in ("predict", "transform"):
            if hasattr(estimator, method):
                a, b = (getattr(each, method)(rows) for each in (estimator, again))
                a, b = (m.toarray() if hasattr(m, "toarray") else m for m in (a, b))
                np.testing.assert_array_equal(a, b)
        made += 1
    assert made > 30


# --- what goes on ------------------------------------------------------------------------------


@pytest.mark.parametrize("auxiliary", [None, baselines.CL4SRec(), baselines.BASRec()])
def test_training_goes_on_as_if_nothing_had_happened(auxiliary: Any, tmp_path: Path) -> None:
    one = din(auxiliary=auxiliary, warm_start=True).fit(X, y)
    other = saved(one, tmp_path)
    for _ in range(2):
        for each in (one, other):
            each.fit(X, y)
            each.partial_fit(X[:100], y[:100])
    check_same(one, other)
    assert skmars.load(tmp_path / "saved").n_iter_ < other.n_iter_
    check_same(saved(other, tmp_path), one)


def test_an_aligner_goes_on(tmp_path: Path) -> None:
    V = WITH_VECTORS
    settings = {"n_components": 8, "id_dim": 4, "max_iter": 2, "warm_start": True, "dropout": 0.1}
    one = SteinAligner(**settings, random_state=0).fit(V, y)
    other = saved(one, tmp_path)
    for each in (one, other):
        each.partial_fit(V, y).fit(V, y)
    check_same(one, other)
    a, b = (each.transform(V) for each in (one, other))
    np.testing.assert_array_equal(a.catalog.embedding, b.catalog.embedding)
    np.testing.assert_array_equal(a.user_embedding, b.user_embedding)


def test_a_random_state_goes_on(tmp_path: Path) -> None:
    random = np.random.RandomState(1)
    random.normal()  # one of a pair: the other one is kept
    one = din(random_state=random).fit(X, y)
    other = saved(one, tmp_path)
    for each in (one, other):
        each.partial_fit(X, y)
    check_same(one, other)


def test_a_pipeline_is_brought_forward_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    log = pd.DataFrame(
        {
            "user_id": rng.integers(0, 40, 600),
            "item_id": rng.integers(0, 30, 600),
            "timestamp": np.arange(600),
            "clicked": rng.integers(0, 2, 600),
        }
    )
    X, y = Impressions.from_log(log[:500], label="clicked")
    fast = FAST | {"align__modalities": (), "encode": "passthrough"}
    one = make_mars(random_state=0, rates=True, **fast).fit(X, y)
    other = saved(one, tmp_path)
    X, y = X.append(log[500:])
    one, other = (skmars.update(each, X, y, new=slice(500, None)) for each in (one, other))
    check_same(one, other)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_a_catalogue_of_another_process_is_recognised(tmp_path: Path) -> None:
    mars, X, y = default()
    again = saved(mars.fit(X, y), tmp_path)
    rows = X[:5].with_catalog(pickle.loads(pickle.dumps(X.catalog)).extend([77_777]))
    np.testing.assert_array_equal(again.predict_proba(rows), mars.predict_proba(rows))
    known = rows.catalog.parts[0].fingerprint
    assert known in again["encode"]._encoded_parts
    assert known not in again["encode"]._memo._results


def test_caches_belong_to_the_machine_that_fitted(tmp_path: Path) -> None:
    """A service can't write to them, and a stranger could have put code into one."""
    cache = tmp_path / "cache"
    items = ItemCatalog(range(30), content={"text": [f"word{i % 7} thing" for i in range(30)]})
    encoder = MultimodalEncoder(cache=str(cache))
    pipeline = Pipeline(
        [("in", Pipeline([("encode", encoder)], memory=str(cache))), ("ctr", DINClassifier())],
        memory=str(cache),
    )
    small = {"ctr__max_iter": 1, "ctr__hidden_units": (4,), "ctr__random_state": 0}
    rows = X.with_catalog(items)
    pipeline.set_params(**small).fit(rows, y)
    skmars.save(pipeline, tmp_path / "model")
    expected = pipeline.predict_proba(rows)
    shutil.rmtree(cache)
    loaded = skmars.load(tmp_path / "model")
    assert [loaded.memory, loaded["in"].memory, loaded["in"]["encode"].cache] == [None] * 3
    encoding.clear_memory_cache()
    more = rows.with_catalog(items.extend(np.array([77])))
    np.testing.assert_array_equal(loaded.predict_proba(more), expected)
    assert not cache.exists()
