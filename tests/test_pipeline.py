"""The whole path inside scikit-learn's own tools, without a word of special code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    learning_curve,
)
from sklearn.pipeline import Pipeline

from skmars import (
    DINClassifier,
    Impressions,
    LeaveLastOut,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    leave_last_out,
    make_mars,
    make_multimodal_ctr,
)


def make_pipeline(**parameters) -> Pipeline:
    small = {
        **{"align__n_components": 8, "align__id_dim": 8, "align__max_iter": 1},
        **{"augment__theta": 0.0, "ctr__hidden_units": (8,), "ctr__max_iter": 1},
    }
    return make_mars(random_state=0, **{**small, **parameters})


@pytest.fixture(scope="module")
def data() -> tuple[Impressions, np.ndarray]:
    X, y = make_multimodal_ctr(n_users=40, n_items=30, random_state=0)
    return X, y


def check_probabilities(p: np.ndarray, n_rows: int) -> None:
    assert p.shape == (n_rows, 2)
    assert ((p > 0) & (p < 1)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


def test_fit_predict(data) -> None:
    X, y = data
    pipeline = make_pipeline().fit(X, y)
    check_probabilities(pipeline.predict_proba(X), len(X))
    assert set(pipeline.predict(X)) <= {0, 1}
    assert pipeline.classes_.tolist() == [0, 1]


def test_grid_search_over_theta_lam_beta() -> None:
    X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    grid = {"augment__theta": [-1.0, 1.1], "align__lam": [0.0, 0.1], "align__beta": [0.0, 0.5]}
    search = GridSearchCV(make_pipeline(), grid, cv=LeaveLastOut(), n_jobs=2, scoring="roc_auc")
    search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 8
    assert search.best_score_ == scores.max() > scores.min() >= 0


class CountingVectorizer(TfidfVectorizer):
    """Notes every text that it encodes in a file, whatever the process.

    A parameter that names the file would make it another encoder whenever the file changes.
    """

    def __init__(self):
        super().__init__(max_features=16)

    def transform(self, raw_documents):
        with open(os.environ["SKMARS_TEST_LOG"], "a") as file:
            file.write("encode\n" * len(raw_documents))
        return super().transform(raw_documents)

    def fit_transform(self, raw_documents, y=None):
        return self.fit(raw_documents, y).transform(raw_documents)


class CountingAligner(SteinAligner):
    """Notes every fit with the number of rows, so that folds can be told apart."""

    log: str

    def _fit(self, X, y, *rest, **options):
        with open(CountingAligner.log, "a") as file:
            file.write(f"align {self.lam} {self.beta} {len(X)}\n")
        return super()._fit(X, y, *rest, **options)


def test_memory_encodes_once_and_aligns_once_per_setting_and_fold(
    data, tmp_path: Path, monkeypatch
) -> None:
    X, y = data
    log = tmp_path / "fits.txt"
    CountingAligner.log = str(log)
    monkeypatch.setenv("SKMARS_TEST_LOG", str(log))
    pipeline = Pipeline(
        [
            ("encode", MultimodalEncoder({"text": CountingVectorizer()})),
            ("align", CountingAligner(4, id_dim=4, max_iter=1, random_state=0)),
            ("augment", SequenceRetrievalAugmenter(theta=0.0)),
            ("ctr", DINClassifier(hidden_units=(4,), max_iter=1, random_state=0)),
        ],
        memory=str(tmp_path / "cache"),
    )
    grid = {
        "augment__theta": [0.0, 0.4],
        "align__lam": [0.0, 0.1],
        "align__beta": [0.0, 1.0],
    }
    GridSearchCV(pipeline, grid, cv=LeaveLastOut(n_splits=2), refit=False).fit(X, y)
    fits = Counter(log.read_text().splitlines())
    assert fits.pop("encode") == len(X.catalog)  # every item, once
    assert len(fits) == 4 * 2  # four settings in each of two folds ...
    assert set(fits.values()) == {1}  # ... each fitted once


def test_cross_val_predict(data) -> None:
    X, y = data
    p = cross_val_predict(make_pipeline(), X, y, cv=2, method="predict_proba")
    check_probabilities(p, len(X))


def test_calibration_and_threshold(data) -> None:
    X, y = data
    calibrated = CalibratedClassifierCV(make_pipeline(), cv=2).fit(X, y)
    check_probabilities(calibrated.predict_proba(X), len(X))
    tuned = TunedThresholdClassifierCV(make_pipeline(), cv=2).fit(X, y)
    assert 0 <= tuned.best_threshold_ <= 1
    frozen = FrozenEstimator(make_pipeline().fit(X, y))
    refitted = CalibratedClassifierCV(frozen).fit(X, y)
    check_probabilities(refitted.predict_proba(X), len(X))


def test_halving_and_learning_curve(data) -> None:
    X, y = data
    search = HalvingGridSearchCV(
        make_pipeline(), {"augment__theta": [0.0, 0.2, 0.4]}, cv=2, random_state=0, factor=3
    )
    assert search.fit(X, y).best_params_["augment__theta"] in (0.0, 0.2, 0.4)
    sizes, _, scores = learning_curve(
        make_pipeline(), X, y, cv=2, train_sizes=[0.5, 1.0], shuffle=True, random_state=0
    )
    assert sizes.tolist() == [len(X) // 4, len(X) // 2]
    assert ((scores >= 0) & (scores <= 1)).all()


def test_frames_in_give_the_same_as_impressions(data) -> None:
    X, y = data
    expected = make_pipeline().fit(X, y).predict_proba(X)
    for frame in ("pandas", "polars", "pyarrow"):
        table = X.to_frame(frame)
        pipeline = make_pipeline().fit(Impressions.from_frame(table, X.catalog), y)
        np.testing.assert_array_equal(pipeline.predict_proba(table), expected)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_containers_of_plain_arrays_change_no_prediction(data, kind: str) -> None:
    X, y = data
    expected = make_pipeline().fit(X, y).predict_proba(X)
    pipeline = make_pipeline().set_output(transform=kind)
    np.testing.assert_array_equal(pipeline.fit(X, y).predict_proba(X), expected)
    with config_context(transform_output=kind):
        found = make_pipeline().fit(X, y).predict_proba(X)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    out = pipeline[:-1].transform(X)
    assert isinstance(out, Impressions)
    assert out.columns == list(pipeline[:-1].get_feature_names_out())


def test_a_model_opens_in_a_new_process(data, tmp_path: Path) -> None:
    X, y = data
    pipeline = make_pipeline().fit(X, y)
    joblib.dump((pipeline, X), tmp_path / "model.joblib")
    script = (
        "import joblib, numpy as np, sys\n"
        "pipeline, X = joblib.load(sys.argv[1])\n"
        "np.save(sys.argv[2], pipeline.predict_proba(X))\n"
    )
    arguments = [str(tmp_path / "model.joblib"), str(tmp_path / "p.npy")]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), pipeline.predict_proba(X), rtol=1e-5)


def test_fits_repeat_and_clones_forget(data) -> None:
    X, y = data
    pipeline = make_pipeline().fit(X, y)
    expected = pipeline.predict_proba(X)
    np.testing.assert_array_equal(pipeline.fit(X, y).predict_proba(X), expected)
    forgotten = clone(pipeline)
    assert not hasattr(forgotten["ctr"], "classes_")
    np.testing.assert_array_equal(forgotten.fit(X, y).predict_proba(X), expected)


def test_rows_are_scored_one_by_one_or_all_at_once(data) -> None:
    X, y = data
    pipeline = make_pipeline().fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))[:50]
    together = pipeline.predict_proba(X)[order]
    np.testing.assert_allclose(pipeline.predict_proba(X[order]), together, rtol=1e-4, atol=1e-6)


def test_diagram_and_repr(data) -> None:
    pipeline = make_pipeline()
    with config_context(display="diagram"):
        assert "skmars.readthedocs.io" in pipeline._repr_html_()
    assert "SteinAligner" in repr(pipeline)


def test_validation_rows_go_through_the_fitted_steps(data) -> None:
    """By metadata routing, in a pipeline and in a search."""
    X, y = data
    train, valid, test = leave_last_out(X)
    known, new = X[train], X[valid]
    steps = make_pipeline()[:-1]
    din = make_pipeline(ctr__max_iter=3)["ctr"]
    rows = steps.fit_transform(known, y[train])
    din.fit(rows, y[train], X_val=steps.transform(new), y_val=y[valid])
    expected = din.predict_proba(steps.transform(X[test]))

    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(transform_input=["X_val"], ctr__max_iter=3)
        pipeline["ctr"].set_fit_request(X_val=True, y_val=True)
        search = GridSearchCV(pipeline, {"augment__theta": [0.0]}, cv=LeaveLastOut())
        search.fit(known, y[train], X_val=new, y_val=y[valid])
        assert 0 <= search.best_score_ <= 1
        pipeline.fit(known, y[train], X_val=new, y_val=y[valid])
    for fitted in (pipeline, search.best_estimator_):
        assert fitted["ctr"].validation_scores_ == din.validation_scores_
        np.testing.assert_array_equal(fitted.predict_proba(X[test]), expected)


def test_validation_rows_that_no_step_has_seen_are_refused(data) -> None:
    X, y = data
    with pytest.raises(ValueError, match="lacks the context column") as refused:
        make_pipeline().fit(X, y, ctr__X_val=X, ctr__y_val=y)
    assert "transform_input=['X_val']" in refused.value.__notes__[0]
    with pytest.raises(ValueError, match="no item features 'factors'"):
        make_pipeline(augment__n_lookalikes=0).fit(X, y, ctr__X_val=X, ctr__y_val=y)


def test_import_costs_little_more_than_scikit_learn() -> None:
    script = (
        "import sys, sklearn.base; before = set(sys.modules); import skmars\n"
        "print(*set(sys.modules) - before)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"torch", "pandas", "polars", "pyarrow", "matplotlib", "PIL"}
    assert not heavy & set(run.stdout.split())


def test_the_docstring_of_the_package_names_what_exists() -> None:
    import skmars

    for name in skmars.__all__:
        assert getattr(skmars, name) is not None
    assert set(dir(skmars)) == set(skmars.__all__)
