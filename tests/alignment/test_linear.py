"""Alignments in closed form: against CCA and Procrustes by hand, on arrays and in a pipeline."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from skmars import (
    DINClassifier,
    ItemCatalog,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    make_multimodal_ctr,
)
from skmars.alignment import LinearAligner
from skmars.alignment._linear_maps import LinearMap, fit_maps

METHODS = ["cca", "procrustes", "mean"]
each_method = pytest.mark.parametrize("method", METHODS)
RNG = np.random.RandomState(0)
LATENT = RNG.normal(size=(120, 4))
TEXT = LATENT @ RNG.normal(size=(4, 7)) + 0.1 * RNG.normal(size=(120, 7)) + 3
IMAGE = LATENT @ RNG.normal(size=(4, 5)) + 0.1 * RNG.normal(size=(120, 5))
ALL = np.ones(120, dtype=bool)


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def scaled(X, columns):
    """Centred, and scaled: each column, or all alike."""
    return (X - X.mean(0)) / (X.std(0) if columns else 1)


# --- the maps -----------------------------------------------------------------------------------


def test_cca_finds_the_canonical_correlations():
    maps = fit_maps([TEXT, IMAGE], [ALL, ALL], "cca", 64, 0)
    scores = [each.project(X) for each, X in zip(maps, (TEXT, IMAGE))]
    # The singular values of the product of orthonormal bases, as the textbook has it.
    bases = [np.linalg.svd(X - X.mean(0), full_matrices=False)[0] for X in (TEXT, IMAGE)]
    expected = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(s.T for s in scores))]
    np.testing.assert_allclose(sorted(found), sorted(expected), atol=1e-3)
    for score in scores:
        np.testing.assert_allclose(score.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(np.cov(score.T, bias=True), np.eye(5), atol=1e-3)


def test_procrustes_is_the_best_of_all_rotations():
    maps = fit_maps([TEXT, IMAGE], [ALL, ALL], "procrustes", 64, 0)
    text, image = maps[0](TEXT), maps[1](IMAGE)
    assert text.shape == image.shape == (120, 7)
    distance = np.linalg.norm(text - image)
    for _ in range(50):
        rotation = np.linalg.qr(RNG.normal(size=(7, 7)))[0]
        assert np.linalg.norm(text - image @ rotation) > distance
    # And no small turn is better.
    for _ in range(50):
        turn = np.linalg.qr(np.eye(7) + 0.01 * RNG.normal(size=(7, 7)))[0]
        turn *= np.sign(np.diag(turn))
        assert np.linalg.norm(text - image @ turn) >= distance - 1e-12


@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("method", ["procrustes", "mean"])
def test_cosines_within_a_modality_are_those_of_its_scaled_features(method, columns):
    maps = fit_maps([TEXT, IMAGE], [ALL, ALL], method, 64, 0, scale_columns=columns)
    for each, X in zip(maps, (TEXT, IMAGE)):
        expected = unit(scaled(X, columns))
        np.testing.assert_allclose(each(X) @ each(X).T, expected @ expected.T, atol=1e-9)


def test_few_components_are_the_first_ones():
    each = LinearMap.components(TEXT, 3, 0, scale_columns=True)
    _, _, axes = np.linalg.svd(scaled(TEXT, True), full_matrices=False)
    assert each.width == 3
    assert subspace_angles(each.matrix * TEXT.std(0)[:, None], axes[:3].T).max() < 1e-9


def test_what_never_varies_is_left_out():
    constant = np.hstack([TEXT, np.full((120, 2), 0.1)])
    wide, narrow = (LinearMap.components(X, 64, 0) for X in (constant, TEXT))
    np.testing.assert_allclose(np.abs(wide(constant)), np.abs(narrow(TEXT)), atol=1e-9)
    small = LinearMap.components(1e-20 * TEXT, 64, 0)
    np.testing.assert_allclose(small(1e-20 * TEXT), LinearMap.components(TEXT, 64, 0)(TEXT))
    nothing = LinearMap.components(np.full((9, 3), 0.1), 64, 0)
    assert not nothing(np.full((2, 3), 0.1)).any()
    for method in METHODS:
        maps = fit_maps([TEXT, np.full((120, 3), 0.1)], [ALL, ALL], method, 64, 0)
        assert np.isfinite(maps[0](TEXT)).all()


def test_three_modalities_turn_to_the_first():
    other = np.linalg.qr(RNG.normal(size=(7, 7)))[0]
    views = [TEXT, IMAGE, TEXT @ other]
    maps = fit_maps(views, [ALL] * 3, "procrustes", 64, 0)
    assert (maps[0](views[0]) * maps[1](views[1])).sum(1).mean() > 0.5
    np.testing.assert_allclose(maps[2](views[2]), maps[0](views[0]), atol=1e-9)


# --- on arrays ----------------------------------------------------------------------------------


@parametrize_with_checks([LinearAligner(m, n_components=8) for m in METHODS], xfail_strict=True)
def test_scikit_learn_battery(estimator, check):
    check(estimator)


def test_the_whole_battery_ran():
    results = check_estimator(LinearAligner(), on_skip=None)
    assert sum(r["status"] == "passed" for r in results) >= 46


@each_method
def test_alignment_of_views(method):
    X = np.hstack([TEXT, IMAGE])
    aligner = LinearAligner(method, n_components=4, modalities=[7, 5]).fit(X)
    Z = aligner.transform(X)
    assert Z.shape == (120, 4)
    assert list(aligner.get_feature_names_out()) == [f"linearaligner{i}" for i in range(4)]
    np.testing.assert_allclose(clone(aligner).fit_transform(X), Z)
    np.testing.assert_allclose(aligner.transform(X[5:6]), Z[5:6], atol=1e-12)
    assert {"cca": 0.9, "procrustes": 0.8, "mean": -1}[method] < aligner.alignment_ <= 1
    assert aligner.transform(X.astype(np.float32)).dtype == np.float32


def test_cca_aligns_best_and_the_mean_not_at_all():
    X = np.hstack([TEXT, IMAGE])
    found = [LinearAligner(m, modalities=[7, 5], n_components=4).fit(X).alignment_ for m in METHODS]
    assert found[0] > found[1] > found[2] + 0.3


# --- on impressions -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    X, y = make_multimodal_ctr(n_users=50, n_items=40, random_state=0)
    features = {"text": TEXT[:40], "image": IMAGE[:40]}
    missing = {"text": np.arange(40) == 3, "image": np.arange(40) % 10 == 3}
    features["image"] = np.where(missing["image"][:, None], np.nan, features["image"])
    return X.with_catalog(X.catalog.with_features(features, missing)), y


@each_method
def test_items_are_the_mean_of_what_they_have_and_users_of_their_items(method, rows):
    X, _ = rows
    aligner = LinearAligner(method).fit(X)
    out = aligner.transform(X)
    embedding = out.catalog.embedding
    parts = aligner.encoder_.embed_modalities(X.catalog)
    for item in range(40):
        there = [name for name in parts if not X.catalog.missing[name][item]]
        expected = np.sum([parts[name][item] for name in there], axis=0) / max(1, len(there))
        np.testing.assert_allclose(embedding[item], expected, atol=1e-6)
        for name in there:
            assert np.linalg.norm(parts[name][item]) == pytest.approx(1, abs=1e-6)
    assert not embedding[3].any()  # has neither
    users = out.user_embedding
    for row in range(0, len(X), 7):
        vectors = [embedding[i] for i in X.history.row(row) if i != 3]
        expected = np.mean(vectors, axis=0) if vectors else np.zeros(embedding.shape[1])
        np.testing.assert_allclose(users[row], expected, atol=1e-6)
    np.testing.assert_allclose(out[5:9].user_embedding, users[5:9], atol=1e-6)


@each_method
def test_only_items_that_occur_are_learnt_from(method, rows):
    X, _ = rows
    few = X[:4]
    there = np.union1d(few.target, np.concatenate([few.history.row(i) for i in range(4)]))
    others = np.setdiff1d(np.arange(40), there)
    features = {name: matrix.copy() for name, matrix in X.catalog.features.items()}
    for matrix in features.values():
        matrix[others] = 1e6
    changed = few.with_catalog(X.catalog.with_features(features, dict(X.catalog.missing)))
    found = [LinearAligner(method).fit(each).transform(few) for each in (few, changed)]
    np.testing.assert_array_equal(*(each.catalog.embedding for each in found))


def test_catalogues_are_recognised_by_content(rows, monkeypatch):
    X, _ = rows
    aligner = LinearAligner().fit(X)
    expected = aligner.transform(X).catalog.embedding
    encoder = aligner.encoder_
    parts = []
    monkeypatch.setattr(encoder, "_embed_part", lambda part: parts.append(len(part)))
    other = pickle.loads(pickle.dumps(X.catalog))
    np.testing.assert_array_equal(encoder.embed_catalog(other).embedding, expected)
    assert parts == []
    monkeypatch.undo()
    longer = X.with_catalog(X.catalog.extend([10**6]))
    out = pickle.loads(pickle.dumps(aligner)).transform(longer)
    np.testing.assert_array_equal(out.catalog.embedding[:-1], expected)
    assert not out.catalog.embedding[-1].any()


@each_method
def test_a_pipeline_downstream(method):
    X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    pipeline = Pipeline(
        [
            ("encode", MultimodalEncoder(random_state=0)),
            ("align", LinearAligner(method, random_state=0)),
            ("augment", SequenceRetrievalAugmenter(item_representation="embedding")),
            ("ctr", DINClassifier(max_iter=1, early_stopping=False, random_state=0)),
        ]
    )
    probability = pipeline.fit(X, y).predict_proba(X)
    assert probability.shape == (len(X), 2)
    assert pipeline[:-1].transform(X).borrowed.length.sum() > 0
    np.testing.assert_allclose(pipeline.predict_proba(X.to_frame("pandas")), probability, atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "features", "message"),
    [
        ({"method": "pls"}, ["text", "image"], "'method' parameter of LinearAligner"),
        ({"n_components": 0}, ["text", "image"], "'n_components' parameter"),
        ({"modalities": ()}, ["text"], r"modalities=\(\) leaves LinearAligner nothing to align"),
        ({"modalities": ["audio"]}, ["text"], "modalities names 'audio'"),
        ({}, [], "has no modality features"),
        ({}, ["text", "image", "factors"], r"method='cca' aligns two modalities, but there are 3"),
        ({}, ["text", "empty"], "Fewer than two items of X have features of 'empty' and of 'text'"),
        ({"method": "mean"}, ["empty"], "Fewer than two items of X have features of 'empty', too"),
    ],
)
def test_errors(parameters, features, message, rows):
    X, y = rows
    given = dict.fromkeys(features, TEXT[:40])
    missing = {"empty": np.ones(40, dtype=bool)} if "empty" in features else None
    catalog = ItemCatalog(X.catalog.ids, features=given, missing=missing)
    aligner = LinearAligner(**parameters)
    before = dict(vars(aligner))
    with pytest.raises(ValueError, match=message):
        aligner.fit(X.with_catalog(catalog), y)
    assert vars(aligner) == before


def test_other_input_than_that_of_fit(rows):
    X, _ = rows
    aligner = LinearAligner().fit(X)
    with pytest.raises(TypeError, match="fitted on impressions, but X is a plain array"):
        aligner.transform(TEXT)
    with pytest.raises(TypeError, match="fitted on a plain array, but X is impressions"):
        LinearAligner().fit(TEXT).transform(X)
    narrow = X.with_catalog(X.catalog.with_features({"text": TEXT[:40, :3]}))
    with pytest.raises(ValueError, match="modality 'text' have 3 columns, but the aligner was"):
        aligner.transform(narrow)
    broken = X.with_catalog(X.catalog.with_features({"text": np.full((40, 7), np.inf)}))
    with pytest.raises(ValueError, match="modality 'text' contain NaN or infinity"):
        aligner.transform(broken)


def test_no_torch_is_needed():
    program = (
        "import sys, numpy as np; from skmars.alignment import LinearAligner;"
        "LinearAligner().fit_transform(np.random.rand(9, 4)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
