"""Any parameters and any features: finite numbers, or an error that names what is wrong."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skmars import Impressions, SteinAligner, make_multimodal_ctr

X, Y = make_multimodal_ctr(n_users=20, n_items=12, random_state=0)
VIEWS = {"text": 5, "image": 3}
RNG = np.random.default_rng(0)
X = X.with_catalog(X.catalog.with_features({m: RNG.normal(size=(12, d)) for m, d in VIEWS.items()}))
ARRAY = RNG.normal(size=(30, 5))
SMALL: dict[str, Any] = {
    "n_components": 4, "id_dim": 4, "n_heads": 2, "n_factors": 3, "max_iter": 1, "random_state": 0
}  # fmt: skip

EXTREMES: dict[str, list[Any]] = {
    "n_components": [1, 3, 10**9, 0, -1, 2.0, np.nan, None, "8"],
    "id_dim": [1, 6, 10**9, 0, np.inf],
    "n_heads": [1, 3, 10**9, 0, 4],
    "alignment": ["infonce", "cca", None],
    "lam": [0, 1e9, 1e38, 1e300, -1, np.nan, np.inf, "a"],
    "beta": [0, 1e9, 1e38, -1e-9, np.nan],
    "entropy": ["paper", None, "minimize", 1],
    "normalize": [False, "no", None],
    "click_score": ["network", "mlp", None],
    "eta": [1e-300, 1e-12, 1e9, 1e300, 0, np.nan],
    "residual": [False, 2, None],
    "causal": [False, "no"],
    "max_length": [1, 2, 10**12, 2**31 - 1, 10**30, 0],
    "modalities": [(), ["text"], ["image", "text"], ["audio"], ["text", "text"], [3, 2], [2, 2],
                   [True, True], [True] * 5, "text", 5, [None], [["text"]], [np.nan, 5], {}],
    "n_factors": [0, 1, 10**6, -1, 2.5],
    "cv": [2, 100, 1, 10**6, None],
    "max_iter": [2, 0, 10**30],
    "batch_size": [1, 2**31 - 1, 10**30, 0, "all"],
    "learning_rate": [1e-300, 1e-12, 100, 1e10, 1e30, 1e300, 0, np.nan, np.inf],
    "weight_decay": [0, 1, 1e6, 1e300, -1, np.nan],
    "dropout": [0, 0.999999, 1, np.nan],
    "early_stopping": [True, 1.5],
    "validation_fraction": [1e-12, 0.5, 0.999999, 0, 1, np.nan],
    "n_iter_no_change": [1, 10**30, 0],
    "tol": [0, 1e300, np.inf, -1],
    "warm_start": [True, "yes"],
    "random_state": [np.random.RandomState(0), -1, "seed"],
    "device": ["cpu", "gpu", None],
    "verbose": [0, -1, "loud"],
}  # fmt: skip
ONE = st.sampled_from([(k, i) for k, values in EXTREMES.items() for i in range(len(values))])


def numbers(aligner: SteinAligner, rows: Any) -> np.ndarray:
    """Return what a fitted aligner gives, and says of itself."""
    array = not isinstance(rows, Impressions)
    Z = aligner.transform(rows)
    given = [Z] if array else [Z.catalog.embedding, Z.user_embedding]
    if not array and "factors" in Z.catalog.features:
        given.append(Z.catalog.features["factors"])
    measured = [aligner.uniformity_, aligner.effective_rank_]
    return np.concatenate([*map(np.ravel, given), measured, aligner.loss_curve_])


def check(parameters: dict[str, Any], array: bool) -> None:
    """Fit, and check that there are finite numbers, or that an error names a parameter."""
    aligner = SteinAligner(**SMALL | parameters)
    before = dict(vars(aligner))
    rows = ARRAY if array else X
    message = fitted = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            aligner.fit(rows, Y)
            fitted = dict(vars(aligner))
            given = numbers(aligner, rows)
        except (ValueError, TypeError, FloatingPointError) as error:
            message = str(error)
    if message is None:
        assert np.isfinite(given).all()
    else:
        assert any(name in message for name in parameters), message
        assert vars(aligner) == (fitted or before)


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("name", EXTREMES)
def test_one_extreme_parameter(name: str, array: bool) -> None:
    for value in EXTREMES[name]:
        check({name: value}, array)


@settings(max_examples=60, deadline=None)
@given(st.lists(ONE, min_size=2, max_size=4), st.booleans())
def test_some_extreme_parameters(chosen: list[tuple[str, int]], array: bool) -> None:
    check({name: EXTREMES[name][i] for name, i in chosen}, array)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_length": 10**12}, "'max_length' parameter"),
        ({"n_components": 10**9}, "'n_components' parameter"),
        ({"n_heads": 3}, "n_heads=3 must divide n_components=4"),
        ({"cv": 1}, "'cv' parameter"),
        ({"cv": 10**6}, "'cv' parameter"),
        ({"n_factors": 10**6}, "'n_factors' parameter"),
        ({"lam": float("nan")}, "'lam' parameter"),
        ({"weight_decay": 1e6}, "weight_decay=1e\\+06 is too large"),
        ({"modalities": [True, False]}, "modalities names True"),
        ({"modalities": ["audio"]}, "modalities names 'audio'"),
    ],
)
def test_parameters_beyond_sense_are_refused_by_name(parameters, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SteinAligner(**SMALL | parameters).fit(X, Y)


def test_a_mask_of_columns_is_no_list_of_blocks() -> None:
    with pytest.raises(ValueError, match="modalities must be the numbers of columns"):
        SteinAligner(**SMALL | {"modalities": [True] * 5}).fit(ARRAY)


# --- features ------------------------------------------------------------------------------------


def with_text(text: np.ndarray) -> Impressions:
    return X.with_catalog(X.catalog.with_features({"text": text}))


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-38, 1e-45])
def test_the_scale_of_features_does_not_matter(scale: float) -> None:
    text = X.catalog.features["text"]
    expected = SteinAligner(**SMALL).fit(X, Y)
    scaled = with_text(scale * text.astype(np.float64))
    aligner = SteinAligner(**SMALL).fit(scaled, Y)
    assert np.isfinite(numbers(aligner, scaled)).all()
    if scale >= 1e-30:
        np.testing.assert_allclose(aligner.loss_curve_, expected.loss_curve_, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, -1e-30])
def test_features_that_never_vary_say_nothing(value: float) -> None:
    constant = with_text(np.full((12, 5), value))
    aligner = SteinAligner(**SMALL | {"modalities": ["text"], "n_factors": 0}).fit(constant, Y)
    network = aligner.encoder_.network
    assert network.projections[0].spread.tolist() == [1.0] * 5
    assert np.isfinite(aligner.transform(constant).catalog.embedding).all()
    array = np.hstack([ARRAY, np.full((30, 1), value)])
    embedding = SteinAligner(**SMALL).fit(array).transform(array)
    assert np.isfinite(embedding).all()
    assert (np.linalg.norm(embedding, axis=1) <= 1 + 1e-6).all()


def test_one_row_or_one_class_is_too_little_for_a_fit_and_enough_to_go_on() -> None:
    for rows, message in ((slice(0, 1), "only one class"), (np.flatnonzero(Y == 1), "only one")):
        aligner = SteinAligner(**SMALL)
        before = dict(vars(aligner))
        with pytest.raises(ValueError, match=message):
            aligner.fit(X[rows], Y[rows])
        assert vars(aligner) == before
        aligner.partial_fit(X[rows], Y[rows])
        assert np.isfinite(aligner.transform(X).catalog.embedding).all()
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        SteinAligner(**SMALL).fit(ARRAY[:1])


def test_a_failing_fit_transform_leaves_nothing_behind() -> None:
    aligner = SteinAligner(**SMALL).fit(X, Y)
    before = dict(vars(aligner.set_params(learning_rate=1e30, max_iter=5)))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        aligner.fit_transform(X, Y)
    assert all(vars(aligner)[name] is value for name, value in before.items())
