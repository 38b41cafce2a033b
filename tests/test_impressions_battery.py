"""What scikit-learn's battery checks on arrays, for the estimators on impressions."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks as checks
from sklearn.utils import get_tags

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    make_multimodal_ctr,
)
from skmars.alignment import LinearAligner
from skmars.data._frames import FRAMES

DIN_SIZES: dict[str, Any] = {"attention_units": (4,), "hidden_units": (4,), "embedding_dim": 4}
MAKERS: dict[str, Callable[..., Any]] = {
    "encoder": partial(MultimodalEncoder, random_state=0),
    "linear": partial(LinearAligner, random_state=0),
    "aligner": partial(SteinAligner, 8, id_dim=8, max_iter=2, random_state=0),
    "augmenter": partial(SequenceRetrievalAugmenter, theta=0.0),
    "din": partial(DINClassifier, max_iter=2, random_state=0, **DIN_SIZES),
}
TRANSFORMERS = ["encoder", "linear", "aligner", "augmenter"]
# Computed in batches of matrix products, whose rounding depends on their shape.
CLOSE = {"rtol": 1e-3, "atol": 1e-5}


@dataclass(frozen=True)
class Stage:
    """An estimator, and impressions as the steps before it in the pipeline hand them on."""

    make: Callable[..., Any]
    X: Impressions
    y: np.ndarray
    fitted: Any


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    X, y = make_multimodal_ctr(n_users=50, n_items=40, history="all", random_state=0)
    rng = np.random.default_rng(0)
    device = rng.choice(["phone", "tv"], len(X)).astype(object)
    X = replace(X, context={"hour": rng.normal(size=len(X)), "device": device})
    result = {}
    for name, make in MAKERS.items():
        estimator = make().fit(X, y)
        result[name] = Stage(make, X, y, estimator)
        if name not in ("linear", "din"):  # the aligner stands in the place of the linear one
            # With the user embeddings of all rows: a table has no encoder to compute them anew,
            # for other rows at a time and with another rounding.
            X = use(estimator, X)
    return result


@pytest.fixture(params=MAKERS)
def stage(request, stages) -> Stage:
    return stages[request.param]


@pytest.fixture(params=TRANSFORMERS)
def transformer(request, stages) -> Stage:
    return stages[request.param]


def use(estimator: Any, X: Any) -> Any:
    """What a fitted estimator makes of rows: impressions, or probabilities."""
    if is_classifier(estimator):
        return estimator.predict_proba(X)
    Z = estimator.transform(X)
    # User embeddings are computed when asked for: here, for all rows.
    return Z if Z.user_embedding is None else Z.with_user_embedding(Z.user_embedding)


def columns(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns as arrays; of list columns, all values and the length of each row."""
    result = {}
    for name, column in frame.items():
        values = column
        if isinstance(next(iter(column), None), list):
            result[f"{name} length"] = column.map(len).to_numpy()
            values = column.explode().dropna().infer_objects()
        result[name] = values.to_numpy()
    return result


def parts(Z: Any) -> dict[str, np.ndarray]:
    """All that there is to compare."""
    if isinstance(Z, np.ndarray):
        return {"probability": Z}
    items = {f"item {k}": v for k, v in Z.catalog.features.items()}
    if Z.catalog.embedding is not None:
        items["item embedding"] = Z.catalog.embedding
    return {**columns(Z.to_frame("pandas")), **items, "item ids": Z.catalog.ids}


def assert_same(a: Any, b: Any, **tolerance: float) -> None:
    a, b = (Z if isinstance(Z, dict) else parts(Z) for Z in (a, b))
    assert a.keys() == b.keys()
    for name, values in a.items():
        if tolerance and values.dtype.kind == "f":
            np.testing.assert_allclose(values, b[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(values, b[name], err_msg=name)


def as_table(X: Impressions, kind: str) -> Any:
    """A table of which skmars remembers nothing."""
    table = X.to_frame(kind)
    return table.slice(0) if kind == "pyarrow" else table.head(len(table))


def fitted_names(estimator: Any) -> set[str]:
    return set(vars(estimator)) - set(estimator.get_params(deep=False))


# --- without data --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_estimator_tags_renamed,
        checks.check_valid_tag_types,
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_mixin_order,
        checks.check_do_not_raise_errors_in_init_or_set_params,
        checks.check_param_validation,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("cls", [MultimodalEncoder, SequenceRetrievalAugmenter])
def test_scikit_learn_checks_that_need_no_data(cls, check) -> None:
    """Of the other two, which take arrays, the whole battery of scikit-learn is run."""
    check(cls.__name__, cls())


def test_tags(stages) -> None:
    for name, stage in stages.items():
        tags = get_tags(stage.make())
        assert tags.requires_fit
        assert (tags.transformer_tags is not None) == (name in TRANSFORMERS)
        assert (tags.estimator_type == "classifier") == (name == "din")
        assert tags.target_tags.required == (name == "din")
        assert tags.input_tags.two_d_array == (name in ("linear", "aligner", "din"))
        assert not tags.input_tags.sparse
        assert get_tags(stage.fitted) == tags
    assert not get_tags(DINClassifier()).classifier_tags.multi_class


def test_html_has_a_link_to_the_documentation(stage) -> None:
    cls = type(stage.fitted)
    link = f"skmars.readthedocs.io/stable/api/skmars.{cls.__module__.split('.')[1]}.{cls.__name__}"
    for estimator in (stage.make(), stage.fitted):
        assert link in estimator._repr_html_()


# --- parameters and state ------------------------------------------------------------------------


def test_fit_returns_itself_and_changes_neither_parameters_nor_data(stage) -> None:
    estimator, y = stage.make(), stage.y.copy()
    before, parameters = parts(stage.X), estimator.get_params()
    before = {name: values.copy() for name, values in before.items()}
    assert estimator.fit(stage.X, y) is estimator
    use(estimator, stage.X)
    assert_same(before, stage.X)
    np.testing.assert_array_equal(y, stage.y)
    assert all(value is parameters[name] for name, value in estimator.get_params().items())


def test_clones_have_the_parameters_and_forget_the_fit(stage) -> None:
    copied = clone(stage.fitted)
    assert repr(copied) == repr(stage.fitted)
    assert not fitted_names(copied)
    with pytest.raises(NotFittedError):
        use(copied, stage.X)
    assert_same(use(copied.fit(stage.X, stage.y), stage.X), use(stage.fitted, stage.X))


def test_fits_repeat_whatever_came_before_and_leave_global_seeds_alone(stage) -> None:
    import torch

    before = np.random.mtrand._rand.get_state()[1].copy(), torch.get_rng_state()
    some = stage.X[::2], stage.y[::2]
    estimator = stage.make().fit(*some).fit(stage.X, stage.y)
    np.testing.assert_array_equal(np.random.mtrand._rand.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert_same(use(estimator, stage.X), use(stage.fitted, stage.X))
    assert fitted_names(estimator) == fitted_names(stage.fitted)


@pytest.mark.parametrize("name", ["aligner", "din"])
def test_another_seed_gives_another_model(stages, name) -> None:
    stage = stages[name]
    other = stage.make(random_state=1).fit(stage.X, stage.y)
    with pytest.raises(AssertionError):
        assert_same(use(other, stage.X), use(stage.fitted, stage.X), **CLOSE)


@pytest.mark.parametrize("how", ["pickle", "joblib", "mapped"])
def test_round_trips(stage, how, tmp_path) -> None:
    expected = use(stage.fitted, stage.X)
    if how == "pickle":
        loaded, X = pickle.loads(pickle.dumps((stage.fitted, stage.X)))
    else:
        joblib.dump((stage.fitted, stage.X), tmp_path / "it")
        mode = "r" if how == "mapped" else None
        loaded, X = joblib.load(tmp_path / "it", mmap_mode=mode)
    assert_same(use(loaded, X), expected)
    assert_same(use(loaded, stage.X), expected)
    assert_same(use(loaded.fit(X, stage.y), X), expected)


def test_columns_of_fit(stage) -> None:
    assert stage.fitted.n_features_in_ == stage.X.shape[1]
    assert stage.fitted.feature_names_in_.tolist() == stage.X.columns
    fewer = replace(stage.X, context={})
    again = clone(stage.fitted).fit(stage.X, stage.y).fit(fewer, stage.y)
    assert again.n_features_in_ == fewer.shape[1]
    assert again.feature_names_in_.tolist() == fewer.columns
    use(again, fewer)


# --- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FRAMES)
def test_the_same_from_impressions_and_tables_to_the_bit(stage, kind) -> None:
    expected = use(stage.fitted, stage.X)
    table = as_table(stage.X, kind)
    # A table has no room for a catalogue: what is to know more of items than ids takes it along.
    rows = Impressions.from_frame(table, stage.X.catalog)
    estimator = stage.make().fit(rows, stage.y)
    assert estimator.feature_names_in_.tolist() == stage.X.columns
    assert_same(use(estimator, rows), expected)
    assert_same(use(estimator, stage.X), expected)
    if isinstance(estimator, MultimodalEncoder):  # which remembers its catalogue
        assert_same(use(estimator, table), expected)


def test_every_row_is_treated_by_itself(stage) -> None:
    expected = use(stage.fitted, stage.X)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(stage.X))
    alone = rng.integers(0, len(stage.X), 5)[:, None]
    for rows in (order, order[:40], slice(None, None, 3), *alone):
        assert_same(use(stage.fitted, stage.X[rows]), expected[rows], **CLOSE)


def test_no_rows(stage) -> None:
    Z = use(stage.fitted, stage.X[:0])
    assert len(Z) == 0
    assert Z.shape[1] == use(stage.fitted, stage.X).shape[1]


def test_users_and_items_that_fit_never_saw(stage) -> None:
    new = stage.X.catalog.extend([10**6])
    known = new.ids[3]
    frame = stage.X[:3].to_frame("pandas")
    frame = frame[["user_id", "item_id", "history", *stage.X.context]]
    frame["user_id"] = frame["item_id"] = 10**6
    frame["history"] = [[10**6, known], [known], []]
    if "user_embedding" in stage.X.columns:
        frame["user_embedding"] = [stage.X.user_embedding[0].tolist()] * 3
    Z = use(stage.fitted, Impressions.from_frame(frame, new))
    assert len(Z) == 3
    for name, values in parts(Z).items():
        assert values.dtype.kind != "f" or not np.isnan(values).any(), name


def test_transformers_keep_rows_and_columns(transformer) -> None:
    before, after = parts(transformer.X), parts(use(transformer.fitted, transformer.X))
    kept = columns(transformer.X.to_frame("pandas")).keys()
    assert_same({k: after[k] for k in kept}, {k: before[k] for k in kept})
    assert after.keys() > before.keys()
    together = parts(transformer.make().fit_transform(transformer.X, transformer.y))
    if "cv" in transformer.make().get_params():  # training rows do not know their own clicks
        assert together.keys() - {"user_fold"} == after.keys() - {"user_fold"}
        assert_same({k: together[k] for k in kept}, {k: before[k] for k in kept})
    else:
        assert_same(together, after)


# --- within scikit-learn -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_impressions_pass_whatever_is_set_for_arrays(transformer, kind) -> None:
    expected = transformer.fitted.transform(transformer.X)
    estimator = transformer.make().set_output(transform=kind).fit(transformer.X, transformer.y)
    assert_same(estimator.transform(transformer.X), expected)
    names = estimator.get_feature_names_out()
    assert isinstance(names, np.ndarray)
    assert names.tolist() == expected.columns
    with config_context(transform_output=kind):
        assert_same(transformer.fitted.transform(transformer.X), expected)


def test_in_a_pipeline(stage) -> None:
    pipeline = make_pipeline(stage.make()).fit(stage.X, stage.y)
    assert_same(use(pipeline, stage.X), use(stage.fitted, stage.X))
    assert pipeline.n_features_in_ == stage.X.shape[1]


class Recorder:
    """A callback that writes down the tasks and keeps the estimator as it is at their ends."""

    def __init__(self, stop: bool = False) -> None:
        self.stop = stop
        self.seen: list[str] = []
        self.estimators: list[Any] = []

    def setup(self, estimator: Any, context: Any) -> None:
        self.seen.append("setup")

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self.seen.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> bool:
        self.seen.append(f"end {context.task_name}")
        self.estimators.append(fitted_estimator)
        return self.stop

    def teardown(self, estimator: Any, context: Any) -> None:
        self.seen.append("teardown")


def test_callbacks_see_the_fit_and_an_estimator_that_works(stage) -> None:
    recorder = Recorder()
    estimator = stage.make().set_callbacks(recorder).fit(stage.X, stage.y)
    assert recorder.seen[:2] == ["setup", "begin fit"]
    assert recorder.seen[-2:] == ["end fit", "teardown"]
    assert_same(use(recorder.estimators[-1], stage.X), use(estimator, stage.X))


@pytest.mark.parametrize("name", ["aligner", "din"])
def test_epochs_are_tasks_and_a_callback_may_stop_the_fit(stages, name) -> None:
    stage = stages[name]
    recorder = Recorder()
    stage.make().set_callbacks(recorder).fit(stage.X, stage.y)
    ends = [task for task in recorder.seen if task.startswith("end")]
    assert ends == ["end epoch 0", "end epoch 1", "end fit"]
    estimator = stage.make().set_callbacks(Recorder(stop=True)).fit(stage.X, stage.y)
    assert estimator.n_iter_ == 1
    assert_same(use(recorder.estimators[0], stage.X), use(estimator, stage.X))


# --- what goes wrong -----------------------------------------------------------------------------


def test_use_before_fit(stage) -> None:
    name = type(stage.fitted).__name__
    methods = ["transform", "get_feature_names_out", "explain", "predict", "predict_proba",
               "decision_function"]  # fmt: skip
    found = [m for m in methods if hasattr(stage.make(), m)]
    assert len(found) >= 2
    for method in found:
        arguments = () if method == "get_feature_names_out" else (stage.X,)
        with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted yet"):
            getattr(stage.make(), method)(*arguments)


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("column", ["user_id", "item_id", "history"])
def test_a_column_is_missing(stage, kind, column) -> None:
    others = [name for name in stage.X.columns if name != column]
    table = stage.X.to_frame(kind)
    table = table.select(others) if kind != "pandas" else table[others]
    for attempt in (lambda: stage.make().fit(table, stage.y), lambda: use(stage.fitted, table)):
        with pytest.raises(ValueError, match=f"X has no column '{column}'.*Impressions.from_log"):
            attempt()


def test_a_context_column_of_fit_is_missing(stage) -> None:
    with pytest.raises(ValueError, match="lacks the context column 'device'"):
        use(stage.fitted, stage.X.to_frame("pandas").drop(columns="device"))


def test_a_history_that_is_no_list(stage) -> None:
    table = stage.X.to_frame("pandas").assign(history="1, 2")
    for attempt in (lambda: stage.make().fit(table, stage.y), lambda: use(stage.fitted, table)):
        with pytest.raises(TypeError, match="'history' of X must hold a list in every row.*row 0"):
            attempt()


def test_a_dict(stage) -> None:
    X = stage.X.to_frame("pandas").to_dict("list")
    for attempt in (lambda: stage.make().fit(X, stage.y), lambda: use(stage.fitted, X)):
        with pytest.raises(TypeError, match="X is a dict.*pandas.DataFrame"):
            attempt()


def test_an_array_after_impressions(stage) -> None:
    with pytest.raises(TypeError, match="fitted on impressions|works on Impressions or on"):
        use(stage.fitted, np.zeros((3, stage.X.shape[1])))


@pytest.mark.parametrize("X", [np.zeros((3, 2)), [[1, 2]], None], ids=["array", "list", "None"])
@pytest.mark.parametrize("cls", [MultimodalEncoder, SequenceRetrievalAugmenter])
def test_something_other_than_impressions(cls, X) -> None:
    message = f"{cls.__name__} works on Impressions or on a pandas.*got {type(X).__name__}"
    with pytest.raises(TypeError, match=message):
        cls().fit(X)


def bad_fits(name: str, X: Impressions, y: np.ndarray) -> list[tuple[dict[str, Any], Any, Any]]:
    """Parameters, X and y of fits that fail early and late."""
    parameter = {
        "augmenter": {"theta": 2.0},
        "encoder": {"batch_size": 0},
        "linear": {"method": ""},
    }
    fits: list[Any] = [
        (parameter.get(name, {"max_iter": 0}), X, y),
        ({}, {"user_id": [1]}, y),
    ]
    if name in ("aligner", "din"):
        fits += [({}, X, None), ({}, X, 0 * y), ({}, X, y[:-1]), ({}, X, y + np.arange(len(y)))]
        fits += [({"learning_rate": 1e30, "max_iter": 5}, X, y), ({"device": "tpu"}, X, y)]
    if name in ("encoder", "linear", "aligner"):
        fits += [({}, X.with_catalog(ItemCatalog(X.catalog.ids)), y)]
    if name in ("linear", "aligner", "augmenter"):
        nan = {k: np.full_like(v, np.nan) for k, v in X.catalog.features.items()}
        broken = X.catalog.with_features(nan)
        if X.catalog.embedding is not None:
            broken = broken.with_embedding(np.full_like(X.catalog.embedding, np.nan))
        fits += [({}, X.with_catalog(broken), y)]
    if name == "din":
        hour = np.where(np.arange(len(X)) == 7, np.nan, X.context["hour"])
        fits += [({}, replace(X, context={**X.context, "hour": hour}), y)]
        fits += [({"item_features": ["audio"]}, X, y)]
    if name == "augmenter":
        fits += [({}, X[:0], y[:0])]
    return fits


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MAKERS)
def test_a_fit_that_fails_leaves_nothing_behind(stages, name) -> None:
    stage = stages[name]
    expected = use(stage.fitted, stage.X)
    more = replace(stage.X, context={**stage.X.context, "more": np.zeros(len(stage.X))})
    estimator = clone(stage.fitted).fit(stage.X, stage.y)
    before = {k: vars(estimator)[k] for k in fitted_names(estimator)}
    for parameters, X, y in bad_fits(name, more, stage.y):
        fresh = stage.make(**parameters)
        for unlucky in (fresh, estimator.set_params(**parameters)):
            with pytest.raises((ValueError, TypeError, FloatingPointError)):
                unlucky.fit(X, y)
        assert not fitted_names(fresh)
        estimator.set_params(**stage.fitted.get_params())
        assert fitted_names(estimator) == before.keys()
        assert all(vars(estimator)[k] is value for k, value in before.items())
        assert_same(use(estimator, stage.X), expected)
