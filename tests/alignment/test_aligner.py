"""SteinAligner on impressions: causality, invariances, new users and items, errors."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    MultimodalEncoder,
    SteinAligner,
    make_multimodal_ctr,
)
from tests.fits import check_finite_or_named, check_repeatable_in_threads


def with_features(X: Impressions, truth, seed: int = 0) -> Impressions:
    """Noisy linear views of the planted factors, as an encoder would find them."""
    rng = np.random.default_rng(seed)
    factors = truth.item_factors
    views = {}
    for name, d in (("text", 12), ("image", 9)):
        view = factors @ rng.normal(size=(factors.shape[1], d))
        views[name] = view + 0.05 * rng.normal(size=view.shape)
    missing = {"image": np.arange(len(X.catalog)) % 10 == 0}
    views["image"][missing["image"]] = 0
    return X.with_catalog(X.catalog.with_features(views, missing))


@pytest.fixture(scope="module", params=["all", "positive"])
def data(request) -> tuple[Impressions, np.ndarray]:
    X, y, truth = make_multimodal_ctr(
        40, 40, n_groups=4, n_factors=8, history=request.param, random_state=0, return_truth=True
    )
    return with_features(X, truth), y


def make(**parameters) -> SteinAligner:
    return SteinAligner(
        **{"n_components": 8, "id_dim": 4, "max_iter": 2, "random_state": 0} | parameters
    )


@pytest.fixture(scope="module")
def fitted(data) -> SteinAligner:
    return make(max_length=5).fit(*data)


def test_learns_clicks() -> None:
    X, y, truth = make_multimodal_ctr(
        120, 40, n_groups=4, n_factors=8, random_state=0, return_truth=True
    )
    aligner = make(n_components=16, max_iter=10, early_stopping=True).fit(
        with_features(X, truth), y
    )
    assert max(aligner.validation_scores_) > 0.6
    assert aligner.loss_curve_[-1] < aligner.loss_curve_[0]


def test_attaches_item_and_user_embeddings(data, fitted) -> None:
    X, _ = data
    Z = fitted.transform(X)
    assert Z.catalog.embedding.shape == (len(X.catalog), 8)
    assert Z.user_embedding.shape == (len(X), 8)
    assert Z.user_embedding.dtype == np.float32
    empty = X.history.length == 0
    assert not Z.user_embedding[empty].any()
    assert np.linalg.norm(Z.user_embedding[~empty], axis=1).min() > 0
    np.testing.assert_array_equal(Z[::3].user_embedding, fitted.transform(X[::3]).user_embedding)
    assert fitted.transform(X).catalog is Z.catalog  # shared, not computed again
    assert "user_embedding" in fitted.get_feature_names_out()


def test_pickle_is_small_and_the_same(data, fitted) -> None:
    X, _ = data
    expected = fitted.transform(X)
    dump = pickle.dumps(fitted)
    assert len(dump) < 200_000
    Z = pickle.loads(dump).transform(X)
    np.testing.assert_array_equal(Z.catalog.embedding, expected.catalog.embedding)
    np.testing.assert_array_equal(Z.user_embedding, expected.user_embedding)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(Z)).user_embedding, Z.user_embedding)


def test_warm_start_and_partial_fit_go_on(data) -> None:
    X, y = data
    aligner = make(warm_start=True).fit(X, y).fit(X, y)
    assert aligner.n_iter_ == 4
    aligner = make().partial_fit(X, y).partial_fit(X, y)
    assert aligner.n_iter_ == 2
    new = X.with_catalog(X.catalog.extend([1001]))
    assert len(aligner.partial_fit(new, y).transform(new).catalog.embedding) == len(X.catalog) + 1


OTHERS = {
    "n_components": 16, "id_dim": 2, "n_heads": 1, "normalize": False, "click_score": "network",
    "residual": False, "causal": False, "max_length": 7, "modalities": ["text"], "n_factors": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_going_on_with_another_network_is_refused(data, name: str) -> None:
    X, y = data
    aligner = make(max_iter=1, warm_start=True).fit(X, y).set_params(**{name: OTHERS[name]})
    before = dict(vars(aligner))
    for go_on in (aligner.fit, aligner.partial_fit, aligner.fit_transform):
        with pytest.raises(ValueError, match=f"goes on from a fit with {name}=.*back to go on"):
            go_on(X, y)
    assert vars(aligner) == before
    assert np.isfinite(aligner.set_params(warm_start=False).fit(X, y).loss_curve_).all()


def test_what_may_change_between_fits(data) -> None:
    X, y = data
    aligner = make(max_iter=1, warm_start=True, modalities=["text", "image"]).fit(X, y)
    aligner.set_params(
        modalities=np.array(["text", "image"]), dropout=0.0, lam=0.0, entropy=None, max_iter=2
    ).fit(X, y)
    assert aligner.n_iter_ == 3
    assert aligner.encoder_.network.dropout.p == 0.0


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_every_way_to_score_clicks_learns(data, causal: bool, residual: bool) -> None:
    X, y = data
    ways = {"causal": causal, "residual": residual, "click_score": "network"}
    aligner = make(**ways, max_iter=5, learning_rate=1e-2, max_length=6, early_stopping=True)
    Z = aligner.fit(X, y).transform(X)
    assert aligner.loss_curve_[-1] < aligner.loss_curve_[0]
    assert np.isfinite(Z.catalog.embedding).all()
    assert np.isfinite(Z.user_embedding).all()
    again = pickle.loads(pickle.dumps(aligner)).transform(X)
    np.testing.assert_array_equal(again.user_embedding, Z.user_embedding)


def test_without_a_residual_an_item_by_itself_ignores_its_content(data) -> None:
    X, y = data
    noise = np.random.default_rng(0)
    other = X.catalog.with_features(
        {m: noise.normal(size=v.shape) for m, v in X.catalog.features.items()}
    )
    for click_score in ("affinity", "network"):
        aligner = make(residual=False, click_score=click_score, max_iter=1).fit(X, y)
        one, two = (aligner.transform(X.with_catalog(c)).catalog for c in (X.catalog, other))
        np.testing.assert_allclose(one.embedding, two.embedding, rtol=1e-5, atol=1e-6)
        aligner = make(click_score=click_score, max_iter=1).fit(X, y)
        one, two = (aligner.transform(X.with_catalog(c)).catalog for c in (X.catalog, other))
        assert np.abs(one.embedding - two.embedding).max() > 0.1


def test_raw_scale_grows_or_shrinks_without_bound(data) -> None:
    X, y = data
    length = {}
    for entropy in ("maximize", "paper"):
        for normalize in (True, False):
            settings = {"entropy": entropy, "normalize": normalize, "lam": 1.0, "beta": 1.0}
            aligner = make(**settings, max_iter=8, learning_rate=5e-2, dropout=0.0, n_factors=0)
            views = aligner.fit(X, y).encoder_.embed_modalities(X.catalog)
            there = ~X.catalog.missing["image"]
            length[entropy, normalize] = np.linalg.norm(views["image"][there], axis=1).mean()
    assert length["maximize", True] == pytest.approx(1) == length["paper", True]
    at_first = make(max_iter=1, learning_rate=1e-9, n_factors=0, normalize=False).fit(X, y)
    views = at_first.encoder_.embed_modalities(X.catalog)
    start = np.linalg.norm(views["image"][there], axis=1).mean()
    assert length["maximize", False] > 2 * start
    assert length["paper", False] < start / 2


def test_an_array_on_raw_scale_is_not_normalised() -> None:
    X = np.random.default_rng(0).normal(size=(100, 6))
    unit = make(max_iter=1).fit(X).encoder_.embed_views(X)[0]
    raw = make(max_iter=1, normalize=False).fit(X).encoder_.embed_views(X)[0]
    assert np.ptp(np.linalg.norm(unit, axis=1)) < 1e-6 < np.ptp(np.linalg.norm(raw, axis=1))


# Where an epoch is one batch.
ONE_BATCH = {"batch_size": 10**6, "dropout": 0.0, "n_factors": 0, "max_iter": 4}


@pytest.mark.parametrize("click_score", ["affinity", "network"])
def test_a_weight_of_two_is_a_row_that_stands_there_twice(data, click_score: str) -> None:
    X, y = data
    count = np.random.default_rng(0).integers(1, 4, len(X))
    repeated = np.repeat(np.arange(len(X)), count)
    make_one = lambda: make(**ONE_BATCH, click_score=click_score, max_length=8)  # noqa: E731
    expected = make_one().fit(X[repeated], y[repeated])
    for weight in (count, 10.0 * count):
        aligner = make_one().fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(aligner.loss_curve_, expected.loss_curve_, rtol=1e-5)
        Z, T = aligner.transform(X), expected.transform(X)
        np.testing.assert_allclose(Z.user_embedding, T.user_embedding, rtol=1e-2, atol=1e-3)
    other = make_one().fit(X, y)
    assert abs(other.loss_curve_[0] - expected.loss_curve_[0]) > 1e-4


@pytest.mark.parametrize("fit", ["fit", "partial_fit", "fit_transform"])
def test_a_weight_of_zero_leaves_a_row_out_of_the_loss(data, fit: str) -> None:
    X, y = data
    weight = np.arange(len(X)) % 3 > 0
    curves = []
    for clicks in (y, np.where(weight, y, 1 - y)):
        aligner = make(early_stopping=True)
        getattr(aligner, fit)(X, clicks, sample_weight=weight)
        curves.append((aligner.loss_curve_, aligner.validation_scores_))
    assert curves[0] == curves[1]
    one_class = pytest.raises(ValueError, match="sample_weight leaves rows of one class only")
    if fit != "partial_fit":
        with one_class:
            getattr(make(), fit)(X, y, sample_weight=y)
    for wrong, message in [(weight[1:], "shape"), (-y, "[Nn]egative"), (0 * y, "zero")]:
        with pytest.raises(ValueError, match=message):
            getattr(make(), fit)(X, y, sample_weight=wrong)


def test_weights_are_routed_through_a_pipeline(data) -> None:
    X, y = data
    weight = np.arange(len(X)) % 3 > 0
    expected = make().fit(X, y, sample_weight=weight)
    with config_context(enable_metadata_routing=True):
        aligner = make().set_fit_request(sample_weight=True)
        last = DINClassifier(max_iter=1, random_state=0).set_fit_request(sample_weight=False)
        pipeline = make_pipeline(aligner, last).fit(X, y, sample_weight=weight)
    assert pipeline[0].loss_curve_ == expected.loss_curve_ != make().fit(X, y).loss_curve_


def test_weights_of_an_array_count_rows() -> None:
    X = np.random.default_rng(0).normal(size=(60, 6))
    count = np.random.default_rng(1).integers(0, 4, 60)
    views = {"modalities": [2, 2, 2], "max_iter": 5}
    expected = make(**views).fit(np.repeat(X, count, axis=0)).transform(X)
    weighted = make(**views).fit(X, sample_weight=count)
    np.testing.assert_allclose(weighted.transform(X), expected, rtol=1e-7, atol=1e-9)
    with pytest.raises(ValueError, match="1 sample.* minimum of 2"):
        make().fit(X, sample_weight=np.arange(60) == 3)
    with pytest.raises(ValueError, match="'cv' parameter of SteinAligner must be an int"):
        make(cv=[3]).fit(*data_of_splits())


def data_of_splits() -> tuple[Impressions, np.ndarray]:
    X, y, truth = make_multimodal_ctr(30, 20, random_state=0, return_truth=True)
    return with_features(X, truth), y


def test_a_failing_partial_fit_changes_nothing(data) -> None:
    X, y = data
    aligner = make().fit(X, y)
    aligner.set_params(learning_rate=1e30, batch_size=16)
    before = dict(vars(aligner))
    with pytest.raises(FloatingPointError, match="epoch 0"):
        aligner.partial_fit(X, y)
    assert vars(aligner).keys() == before.keys()
    assert all(vars(aligner)[k] is value for k, value in before.items())


@pytest.mark.parametrize("label", [0, 1])
def test_a_first_partial_fit_of_one_class(data, label: int) -> None:
    X, y = data
    """It moves the log-odds towards that class, and the next call goes on from there."""
    one = X[y == label], y[y == label]
    aligner = make().partial_fit(*one)
    for _ in range(10):
        aligner.partial_fit(*one)
    first, *_, last = aligner.loss_curve_
    assert last < first
    assert np.isfinite(aligner.partial_fit(X, y).transform(X).catalog.embedding).all()
    assert aligner.loss_curve_[-1] > last  # the other class is news


@pytest.mark.parametrize("array", [False, True])
def test_a_fit_minds_neither_threads_nor_the_global_generator(data, array: bool) -> None:
    X, y = data
    if array:
        X = np.random.default_rng(0).normal(size=(600, 6))

    def fitted() -> np.ndarray:
        # Batches of more than 256 rows and items: the loss draws some of them.
        aligner = make(batch_size=300, early_stopping=True).fit(X, y).partial_fit(X, y)
        Z = aligner.transform(X)
        return Z if array else np.concatenate([Z.catalog.embedding, Z.user_embedding])

    check_repeatable_in_threads(fitted)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("learning_rate", [1e3, 1e8, 1e19, 1e30, 1e38])
def test_any_learning_rate_gives_numbers_or_fails(
    data, learning_rate: float, array: bool, early_stopping: bool
) -> None:
    X, y = data
    if array:
        X = np.random.default_rng(0).normal(size=(100, 6))
    aligner = make(learning_rate=learning_rate, max_iter=1, early_stopping=early_stopping)

    def numbers() -> np.ndarray:
        Z = aligner.transform(X)
        embeddings = [Z] if array else [Z.catalog.embedding, Z.user_embedding]
        geometry = [aligner.alignment_, aligner.uniformity_, aligner.effective_rank_]
        return np.concatenate([*map(np.ravel, embeddings), geometry])

    for fit in (aligner.fit, aligner.partial_fit):
        before = dict(vars(aligner))
        check_finite_or_named(lambda fit=fit: (fit(X, y), numbers())[1], learning_rate)
        if not hasattr(aligner, "encoder_"):  # it failed
            assert vars(aligner) == before


def test_an_array_that_is_too_large_names_the_column() -> None:
    X = np.random.default_rng(0).normal(size=(50, 4))
    aligner = make().fit(X)
    bad = X.copy()
    bad[7, 2] = 1e300
    for use in (aligner.transform, make().fit, aligner.partial_fit):
        with pytest.raises(ValueError, match=r"Column 2 of X holds 1e\+300 in row 7"):
            use(bad)
    with pytest.raises(ValueError, match=r"Column 2 of X is scaled to"):
        make().fit(X * [1, 1, 1e-20, 1]).transform(X * [1, 1, 1e20, 1])


def test_features_that_are_too_large_give_no_embedding(data, fitted) -> None:
    X, _ = data
    text = X.catalog.features["text"].copy()
    text[3] = 3e38
    with pytest.raises(FloatingPointError, match=r"embeddings of items .* extreme values"):
        fitted.transform(X.with_catalog(X.catalog.with_features({"text": text})))


@pytest.mark.parametrize("modalities", [(), ("text",), ("image", "text")])
def test_any_number_of_modalities(data, modalities) -> None:
    X, y = data
    aligner = make(modalities=modalities, residual=False).fit(X, y)
    Z = aligner.transform(X)
    assert np.isfinite(Z.catalog.embedding).all()
    assert list(aligner.encoder_.network.modality_sizes) == [*modalities, "factors"]
    # What is not used does not count.
    left_out = {m: 0 * v for m, v in X.catalog.features.items() if m not in modalities}
    other = aligner.transform(X.with_catalog(X.catalog.with_features(left_out)))
    np.testing.assert_array_equal(Z.catalog.embedding, other.catalog.embedding)


def test_entropy_widens_the_space_of_impressions(data) -> None:
    X, y = data
    wide, narrow = (
        make(entropy=e, lam=5.0, beta=5.0, max_iter=10, learning_rate=1e-2, dropout=0.0).fit(X, y)
        for e in ("maximize", "paper")
    )
    assert wide.effective_rank_ > narrow.effective_rank_
    assert wide.uniformity_ > narrow.uniformity_


def test_planted_views_are_aligned() -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(300, 4))
    X = np.hstack([latent @ rng.normal(size=(4, 8)), latent @ rng.normal(size=(4, 6))])
    aligner = SteinAligner(8, modalities=[8, 6], max_iter=150, random_state=0).fit(X)
    shuffled = np.hstack([X[:, :8], rng.permutation(X[:, 8:])])
    against_chance = SteinAligner(8, modalities=[8, 6], max_iter=150, random_state=0).fit(shuffled)
    assert aligner.alignment_ > 0.9 > against_chance.alignment_


def test_ctrl_c_leaves_a_usable_estimator(data, monkeypatch) -> None:
    from skmars.alignment._clicks import ClickObjective

    X, y = data
    calls = []

    def loss(self, batch, original=ClickObjective.loss):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(ClickObjective, "loss", loss)
    with pytest.warns(ConvergenceWarning, match="SteinAligner: training was interrupted"):
        aligner = make(batch_size=128).fit(X, y)
    Z = aligner.transform(X)
    affinity = (Z.user_embedding * Z.catalog.embedding[Z.target]).sum(1)
    assert affinity.std() > 0
    assert aligner.n_iter_ == len(aligner.loss_curve_) < 2


class TestErrors:
    def test_no_features(self, data) -> None:
        X, y = data
        with pytest.raises(ValueError, match="Put MultimodalEncoder before the aligner"):
            make().fit(X.with_catalog(ItemCatalog(X.catalog.ids)), y)

    def test_a_modality_that_is_not_there(self, data) -> None:
        with pytest.raises(ValueError, match="modalities names 'audio'.*'text', 'image'"):
            make(modalities=["audio"]).fit(*data)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_features_that_are_not_finite(self, data, value) -> None:
        X, y = data
        bad = X.catalog.features["text"].copy()
        bad[3] = value
        aligner = make()
        with pytest.raises(ValueError, match=r"'text'.*3"):
            aligner.fit(X.with_catalog(X.catalog.with_features({"text": bad})), y)
        assert not hasattr(aligner, "n_features_in_")

    def test_targets(self, data) -> None:
        X, y = data
        for bad, message in [
            (None, "target y is None"),
            (0 * y, "only one class"),
            (y + X.user, "Only binary"),
        ]:
            with pytest.raises(ValueError, match=message):
                make().fit(X, bad)

    def test_parameters(self, data) -> None:
        for parameters, message in [
            ({"lam": -1}, "'lam' parameter"),
            ({"entropy": "minimize"}, "'entropy' parameter"),
            ({"n_heads": 3}, "n_heads=3 must divide n_components=8"),
        ]:
            with pytest.raises(ValueError, match=message):
                make(**parameters).fit(*data)

    def test_a_learning_rate_that_explodes(self, data) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            aligner = make(learning_rate=1e30, max_iter=5)
            with pytest.raises(FloatingPointError, match="epoch 0.*learning_rate"):
                aligner.fit(*data)
        assert not hasattr(aligner, "encoder_")


def test_a_better_than_chance_click_model_ranks_rows(data) -> None:
    X, y = data
    aligner = make(max_iter=10, early_stopping=True).fit(X, y)
    Z = aligner.transform(X)
    affinity = (Z.user_embedding * Z.catalog.embedding[Z.target]).sum(1)
    assert roc_auc_score(y, affinity) > 0.5


@pytest.mark.parametrize("attached", [False, True], ids=["transform", "fit_transform"])
def test_a_catalogue_is_known_by_its_content(data, attached: bool) -> None:
    """Equal, unpickled and extended ones: what is known of them is not made again."""
    X, y = data
    aligner = make()
    out = aligner.fit_transform(X, y) if attached else aligner.fit(X, y).transform(X)
    known = X.catalog
    embedded = aligner.transform(X).catalog
    equal = ItemCatalog(
        known.ids.copy(), content=known.content, features=known.features, missing=known.missing
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(aligner.encoder_), "_embed_part", None)  # would be needed for a new one
        for catalog in (known, equal, pickle.loads(pickle.dumps(known))):
            Z = aligner.transform(X.with_catalog(catalog))
            assert Z.catalog.embedding is embedded.embedding
            np.testing.assert_array_equal(Z.user_embedding, aligner.transform(X).user_embedding)
    extended = aligner.transform(X.with_catalog(known.extend([10**6, 10**6 + 1])))
    assert extended.catalog.parts[0].embedding is embedded.embedding
    np.testing.assert_array_equal(extended.user_embedding, aligner.transform(X).user_embedding)
    again = pickle.loads(pickle.dumps(out))
    np.testing.assert_array_equal(again.user_embedding, out.user_embedding)


def test_a_catalogue_of_many_parts_is_embedded_once(data) -> None:
    X, y = data
    aligner = make(max_iter=1).fit(X, y)
    catalog = X.catalog
    for new in range(1000, 1007):
        catalog = catalog.extend([new])
    assert len(catalog.parts) == 8
    rows = X.with_catalog(catalog)
    expected = aligner.transform(rows)
    expected_users = expected.user_embedding
    with pytest.MonkeyPatch.context() as patch:
        for made in ("_embed_part", "_read"):
            patch.setattr(type(aligner.encoder_), made, None)
        Z = aligner.transform(rows)
        np.testing.assert_array_equal(Z.user_embedding, expected_users)
    np.testing.assert_array_equal(Z.catalog.embedding, expected.catalog.embedding)


def test_going_on_with_features_of_another_kind(data) -> None:
    X, y = data
    aligner = make(max_iter=1, warm_start=True).fit(X, y)
    text = X.catalog.features["text"]
    less = X.with_catalog(ItemCatalog(X.catalog.ids, features={"text": text}))
    narrow = X.with_catalog(X.catalog.with_features({"text": text[:, :2]}))
    for go_on in (aligner.partial_fit, aligner.fit):
        with pytest.raises(ValueError, match="no features of modality 'image'"):
            go_on(less, y)
        with pytest.raises(ValueError, match="'text' have 2 columns, but the aligner"):
            go_on(narrow, y)


@pytest.mark.parametrize("value", [True, 10**400, 2**70, np.True_])
@pytest.mark.parametrize("name", ["n_heads", "max_length", "learning_rate", "tol", "batch_size"])
def test_numbers_that_are_none(data, name: str, value) -> None:
    with pytest.raises(ValueError, match=f"The '{name}' parameter of SteinAligner"):
        make(**{name: value}).fit(*data)


def test_items_of_which_nothing_is_known_are_alike() -> None:
    X, y = make_multimodal_ctr(n_users=40, n_items=30, random_state=0)
    X = MultimodalEncoder(random_state=0).fit_transform(X)
    aligner = SteinAligner(max_iter=1, random_state=0).fit(X, y)
    catalog = X.catalog.extend([10_001, 10_002]).extend([10_003])
    embedded = aligner.encoder_.embed_catalog(catalog).embedding
    np.testing.assert_allclose(embedded, aligner.encoder_.embed_items(catalog), atol=1e-5)
    assert (embedded[-3:] == embedded[-1]).all()
    # Also in a catalogue that has such items among others.
    flat = aligner.encoder_.embed_catalog(
        ItemCatalog(catalog.ids, features=catalog.features, missing=catalog.missing)
    )
    np.testing.assert_allclose(flat.embedding, embedded, atol=1e-5)
