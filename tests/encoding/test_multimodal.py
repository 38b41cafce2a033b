"""The encoder on catalogues, impressions and frames."""

from __future__ import annotations

import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as checks

from skmars import Impressions, ItemCatalog, MultimodalEncoder
from skmars.encoding import (
    ImageStatisticsEncoder,
    OpenClipEncoder,
    SentenceTransformerEncoder,
    TfidfEncoder,
    TimmImageEncoder,
    clear_memory_cache,
)

pytestmark = pytest.mark.filterwarnings("ignore:Masked items:UserWarning")

DATA_FREE_CHECKS = [
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
]


@pytest.mark.parametrize("check", DATA_FREE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "estimator",
    [
        TfidfEncoder(),
        ImageStatisticsEncoder(),
        SentenceTransformerEncoder("name"),
        TimmImageEncoder("name"),
        OpenClipEncoder("name", None),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_scikit_learn_checks_that_need_no_data(estimator, check):
    if check is checks.check_parameters_default_constructible and not isinstance(
        estimator, TfidfEncoder | ImageStatisticsEncoder
    ):
        pytest.skip("names a model, for which there is no default")
    check(type(estimator).__name__, estimator)


# --- features -----------------------------------------------------------------------------


def test_the_defaults_encode_the_text_and_the_images_there_are(catalog):
    encoder = MultimodalEncoder().fit(catalog)
    features = encoder.catalog_.features
    assert list(features) == ["text", "image"]
    for name, lacking in {"text": [100, 101], "image": [109, 110, 111]}.items():
        matrix, missing = features[name], encoder.catalog_.missing[name]
        assert matrix.dtype == np.float32
        assert np.isfinite(matrix).all()
        assert catalog.ids[missing].tolist() == encoder.missing_[name].tolist() == lacking
        assert not matrix[missing].any()
        assert matrix[~missing].any(axis=1).all()
    assert encoder.n_encoded_ == {"text": 10, "image": 9}
    assert isinstance(encoder.encoders_["text"], TfidfEncoder)


def test_without_texts_the_titles_are_the_text():
    catalog = ItemCatalog([1, 2], content={"title": ["a toy", "a book"]})
    assert list(MultimodalEncoder().fit(catalog).catalog_.features) == ["text"]


def test_the_same_in_every_fit_whatever_the_cache_holds(catalog):
    first = MultimodalEncoder().fit(catalog).catalog_
    clear_memory_cache()
    second = MultimodalEncoder(batch_size=5).fit(catalog).catalog_
    for name in first.features:
        np.testing.assert_array_equal(first.features[name], second.features[name])
    clear_memory_cache()
    rng = np.random.RandomState(3)
    MultimodalEncoder(random_state=rng).fit(catalog)


texts = st.lists(st.one_of(st.none(), st.text(max_size=20)), min_size=1, max_size=12)


@given(texts, st.integers(1, 5), st.randoms())
def test_a_row_depends_on_its_own_content_alone(texts, batch_size, random):
    """Neither on the order of items, nor on the batch, nor on what was encoded before."""
    texts = ["there is one", *texts]
    order = list(range(len(texts)))
    random.shuffle(order)
    encoders = {"text": FunctionTransformer(lambda X: [[len(x), sum(map(ord, x))] for x in X])}
    encoder = MultimodalEncoder(encoders, batch_size=batch_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        catalog = encoder.fit(ItemCatalog(range(len(texts)), content={"text": texts})).catalog_
        content = {"text": [texts[i] for i in order]}
        permuted = encoder.transform(ItemCatalog(order, content=content))
    np.testing.assert_array_equal(permuted.features["text"], catalog.features["text"][order])
    np.testing.assert_array_equal(permuted.missing["text"], catalog.missing["text"][order])
    for text, row, missing in zip(texts, catalog.features["text"], catalog.missing["text"]):
        assert missing == (text is None or not text.strip())
        assert row.tolist() == ([0, 0] if missing else [len(text), sum(map(ord, text))])


def test_scikit_learn_transformers_of_texts_images_and_other_content(catalog):
    sounds = [np.arange(4) + i for i in range(12)]
    catalog = ItemCatalog(catalog.ids, content={**catalog.content, "sound": sounds})
    sizes = FunctionTransformer(lambda images: [[x.width, x.height] for x in images])
    spectrum = FunctionTransformer(lambda sounds: np.abs(np.fft.rfft(np.stack(sounds))))
    words = make_pipeline(CountVectorizer(), FunctionTransformer(lambda X: X.toarray()))
    encoders = {"text": words, "image": sizes, "sound": spectrum}
    features = MultimodalEncoder(encoders).fit(catalog).catalog_.features
    assert features["image"][0].tolist() == [30, 20]
    assert features["sound"].shape == (12, 3)
    assert features["text"][2].sum() == 4


def test_sparse_vectors_become_dense_unless_they_are_far_too_long(catalog):
    encoder = MultimodalEncoder({"text": CountVectorizer()}).fit(catalog)
    assert isinstance(encoder.catalog_.features["text"], np.ndarray)
    with pytest.raises(ValueError, match="text encoder returned a sparse .* 1048576 columns"):
        MultimodalEncoder({"text": HashingVectorizer()}).fit(catalog)


def test_images_of_a_fitted_encoder_are_read_one_by_one(catalog):
    class MeanColor(BaseEstimator):
        def fit(self, X, y=None):
            assert not isinstance(X, list)
            self.mean_ = np.mean([np.asarray(x).mean() for x in X])
            return self

        def transform(self, X):
            return [[np.asarray(x).mean() - self.mean_] for x in X]

    encoder = MultimodalEncoder({"image": MeanColor()}).fit(catalog)
    assert encoder.missing_["image"].tolist() == [109, 110, 111]
    assert encoder.catalog_.features["image"].mean() == pytest.approx(0, abs=1e-4)


def test_a_frozen_encoder_keeps_its_fit(catalog):
    words = TfidfEncoder(3).fit(["red train", "blue doll", "wood card"])
    frozen = MultimodalEncoder({"text": FrozenEstimator(words)}).fit(catalog)
    expected = words.transform([catalog.content["text"][5]])
    np.testing.assert_allclose(frozen.catalog_.features["text"][[5]], expected)
    other = FrozenEstimator(TfidfEncoder(3).fit(["game ball", "bear drum", "wood card"]))
    assert MultimodalEncoder({"text": other}).fit(catalog).n_encoded_ == {"text": 10}


@pytest.mark.parametrize("place", ["content", "features"])
def test_precomputed_vectors(catalog, place):
    vectors = np.arange(24.0).reshape(12, 2)
    if place == "content":
        column = [None if i == 4 else vector for i, vector in enumerate(vectors)]
        catalog = ItemCatalog(catalog.ids, content={"audio": column})
    else:
        missing = {"audio": np.arange(12) == 4}
        catalog = ItemCatalog(catalog.ids, features={"audio": vectors}, missing=missing)
    encoder = MultimodalEncoder({"audio": "precomputed"}).fit(catalog)
    expected = np.where((np.arange(12) == 4)[:, None], 0, vectors)
    np.testing.assert_array_equal(encoder.catalog_.features["audio"], expected)
    assert encoder.missing_["audio"].tolist() == [104]
    assert encoder.encoders_ == {"audio": "precomputed"}
    assert encoder.n_encoded_ == {"audio": 0}
    more = encoder.transform(catalog.extend([7]))
    assert more.missing["audio"].sum() == 2


def test_features_that_are_there_already_are_taken_as_they_are():
    catalog = ItemCatalog([1, 2], features={"audio": np.eye(2)})
    encoder = MultimodalEncoder().fit(catalog)
    assert encoder.encoders_ == {"audio": "precomputed"}


def test_features_of_other_modalities_stay(catalog):
    catalog = catalog.with_features({"audio": np.ones((12, 2))})
    assert set(MultimodalEncoder().fit(catalog).catalog_.features) == {"text", "image", "audio"}


def test_an_encoder_may_use_the_memory_of_its_vectors_again():
    buffer = np.zeros((1, 1), np.float32)

    def lengths(X):
        buffer[:] = len(X[0])
        return buffer

    encoder = MultimodalEncoder({"text": FunctionTransformer(lengths)}, batch_size=1)
    fitted = encoder.fit(ItemCatalog([1, 2], content={"text": ["a", "ab"]}))
    assert fitted.catalog_.features["text"].ravel().tolist() == [1, 2]


# --- what goes wrong ------------------------------------------------------------------------


@pytest.mark.filterwarnings("default:Masked items:UserWarning")
def test_one_warning_counts_and_names_what_is_masked(data):
    X, y = data
    with pytest.warns(UserWarning, match="Masked items") as caught:
        encoder = MultimodalEncoder().fit(X, y)
    assert len(caught) == 1, [str(w.message) for w in caught]
    text = str(caught[0].message)
    assert "text: 2 of 12 items (100, 101: no content)" in text
    assert "image: 3 of 12 items (109, 111: cannot identify image file; 110: " in text
    assert "truncated" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.transform(X)
        encoder.transform(X.catalog.extend([5]))  # an item without content is no news


def test_a_broken_file_among_new_items_is_named_at_transform(catalog, tmp_path):
    encoder = MultimodalEncoder({"image": ImageStatisticsEncoder()}).fit(catalog)
    new = ItemCatalog([1], content={"image": [str(tmp_path / "nowhere.png")]})
    with pytest.warns(UserWarning, match=r"1 of 1 items \(1: .*nowhere.png: No such file"):
        encoded = encoder.transform(new)
    assert encoded.features["image"].shape == (1, 240)
    assert encoded.missing["image"].all()


def test_a_mended_file_counts_from_the_next_fit(catalog, folder):
    assert 111 in MultimodalEncoder().fit(catalog).missing_["image"]
    (folder / "11.png").write_bytes((folder / "3.png").read_bytes())
    again = MultimodalEncoder().fit(catalog)
    assert 111 not in again.missing_["image"]
    np.testing.assert_array_equal(*again.catalog_.features["image"][[3, 11]])


def test_a_catalogue_without_the_modality(catalog):
    texts_only = ItemCatalog([1], content={"text": ["a"]}, features={"audio": [[1.0]]})
    with pytest.raises(ValueError, match="'image'; it has content: 'text'; features: 'audio'"):
        MultimodalEncoder({"image": ImageStatisticsEncoder()}).fit(texts_only)
    with pytest.raises(ValueError, match="'text' or 'image'; it has content: none"):
        MultimodalEncoder().fit(ItemCatalog([1, 2]))
    with pytest.raises(ValueError, match="no content for modality 'image'"):
        MultimodalEncoder().fit(catalog).transform(texts_only)


@pytest.mark.parametrize("images", [[None, None], ["nowhere.png", b"nothing"]])
def test_no_usable_item_at_all(images):
    catalog = ItemCatalog([1, 2], content={"image": images})
    with pytest.raises(ValueError, match=r"None of the 2 items has usable image content \(1"):
        MultimodalEncoder({"image": ImageStatisticsEncoder()}).fit(catalog)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_name_modality_and_items_and_leave_nothing_behind(catalog, bad):
    poison = FunctionTransformer(lambda X: [[bad if "item 3" in x else 1.0] for x in X])
    catalog = ItemCatalog(catalog.ids, content={"text": catalog.content["title"]})
    encoder = MultimodalEncoder({"text": poison})
    before = set(vars(encoder))
    with pytest.raises(ValueError, match=r"text encoder returned NaN or infinity .*\(ids 103\)"):
        encoder.fit(catalog)
    assert set(vars(encoder)) == before
    catalog = ItemCatalog([1, 2], content={"audio": [[1.0], [bad]]})
    with pytest.raises(ValueError, match="audio encoder returned NaN .*ids 2"):
        MultimodalEncoder({"audio": "precomputed"}).fit(catalog)


@pytest.mark.parametrize("shape", [(1,), (2, 2), (1, 0)])
def test_an_encoder_that_does_not_return_a_vector_an_item(shape):
    wrong = FunctionTransformer(lambda X: np.zeros(shape))
    with pytest.raises(ValueError, match=r"one vector an item: shape \(1, n_features\), got"):
        MultimodalEncoder({"text": wrong}).fit(ItemCatalog([1], content={"text": ["a"]}))


def test_precomputed_features_are_shared_and_masked_ones_zero():
    vectors = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    vectors[2] = np.nan
    vectors.flags.writeable = False
    catalog = ItemCatalog(
        np.arange(4), features={"audio": vectors}, missing={"audio": np.arange(4) == 2}
    )
    encoder = MultimodalEncoder({"audio": "precomputed"})
    with pytest.warns(UserWarning, match="audio: 1 of 4 items"):
        made = encoder.fit(catalog).transform(catalog)
    expected = np.where(np.arange(4)[:, None] == 2, 0, vectors)
    np.testing.assert_array_equal(made.features["audio"], expected)
    assert made.missing["audio"].tolist() == [False, False, True, False]
    broken = ItemCatalog(np.arange(4), features={"audio": vectors})
    with pytest.raises(ValueError, match=r"NaN or infinity for 1 items \(ids 2\)"):
        encoder.fit(broken)
    whole = ItemCatalog(np.arange(2), features={"audio": vectors[:2]})
    assert encoder.fit(whole).catalog_.features["audio"] is whole.features["audio"]


def test_precomputed_vectors_of_different_lengths():
    catalog = ItemCatalog([1, 2], content={"audio": [[1.0, 2.0], [1.0]]})
    with pytest.raises(ValueError, match="item 1 has 2 numbers, item 2 has 1"):
        MultimodalEncoder({"audio": "precomputed"}).fit(catalog)


def test_what_is_no_encoder(catalog):
    with pytest.raises(TypeError, match=r"encoders\['text'\] must be a scikit-learn transformer"):
        MultimodalEncoder({"text": 3}).fit(catalog)
    with pytest.raises(ValueError, match="encoders is empty"):
        MultimodalEncoder({}).fit(catalog)
    with pytest.raises(ValueError, match="'open_clip:ViT-B-32/' for random"):
        MultimodalEncoder({"text": "open_clip:ViT-B-32"}).fit(catalog)


# --- impressions and frames -----------------------------------------------------------------


def test_rows_stay_and_only_the_catalogue_changes(data):
    X, y = data
    before = X.to_frame("pandas")
    Xt = MultimodalEncoder().fit_transform(X, y)
    assert isinstance(Xt, Impressions)
    assert Xt.catalog.ids is X.catalog.ids
    assert not X.catalog.features
    pd.testing.assert_frame_equal(Xt.to_frame("pandas"), before)
    pd.testing.assert_frame_equal(X.to_frame("pandas"), before)


def test_rows_can_be_selected_before_or_after(data):
    X, y = data
    encoder = MultimodalEncoder().fit(X[:50], y[:50])
    rows = np.random.default_rng(0).permutation(len(X))[:20]
    after, before = encoder.transform(X)[rows], encoder.transform(X[rows])
    pd.testing.assert_frame_equal(after.to_frame("pandas"), before.to_frame("pandas"))
    assert after.catalog is before.catalog


def test_fitting_twice_is_fitting_once(data):
    encoder = MultimodalEncoder().fit(*data)
    first = encoder.catalog_
    again = encoder.fit(*data).catalog_
    assert all(first.features[k] is again.features[k] for k in first.features)


def test_a_frame_at_serving_time_takes_the_fitted_catalogue(data, counting):
    X, y = data
    encoder = MultimodalEncoder({"text": counting()}).fit(X, y)
    counting.encoded.clear()
    row = pd.DataFrame({"user_id": [1], "item_id": [999], "history": [[103, 998]], "hour": [3]})
    Xt = encoder.transform(row)
    assert Xt.item_ids.tolist() == [999]
    assert Xt.catalog.ids[Xt.history.row(0)].tolist() == [103, 998]
    np.testing.assert_array_equal(
        Xt.catalog.features["text"][Xt.history.row(0)],
        [encoder.catalog_.features["text"][3], [0, 0, 0]],
    )
    assert Xt.catalog.missing["text"][Xt.target].all()
    assert not counting.encoded


def test_impressions_that_know_only_ids_take_the_catalogue_of_fit(data):
    X, y = data
    bare = Impressions.from_frame(X.to_frame("pyarrow"))
    assert not bare.catalog.content
    Xt = MultimodalEncoder().fit(X, y).transform(bare)
    pd.testing.assert_frame_equal(Xt.to_frame("pandas"), X.to_frame("pandas"), check_dtype=False)
    assert set(Xt.catalog.features) == {"text", "image"}


def test_a_catalogue_is_accepted_as_it_is(catalog):
    encoder = MultimodalEncoder()
    encoded = encoder.fit_transform(catalog)
    assert isinstance(encoded, ItemCatalog)
    assert encoder.transform(encoded) is encoded
    assert encoder.get_feature_names_out().tolist() == []


def test_a_fit_on_a_catalogue_forgets_the_columns_of_an_earlier_one(data, catalog):
    X, y = data
    encoder = MultimodalEncoder().fit(X, y).fit(catalog)
    assert not hasattr(encoder, "n_features_in_")
    encoder.transform(X.to_frame("pandas").drop(columns="hour"))


# --- estimators travel ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["pickle", "joblib"])
def test_a_pickle_needs_no_encoding_in_a_new_process(data, how, tmp_path, counting):
    X, y = data
    encoder = MultimodalEncoder({"text": counting()}).fit(X, y)
    if how == "pickle":
        loaded, X2 = pickle.loads(pickle.dumps((encoder, X)))
    else:
        joblib.dump((encoder, X), tmp_path / "it")
        loaded, X2 = joblib.load(tmp_path / "it")
    clear_memory_cache()
    counting.encoded.clear()
    fresh = ItemCatalog(X.catalog.ids, content=X.catalog.content)
    for catalog in (loaded.transform(X2).catalog, loaded.transform(fresh)):
        np.testing.assert_array_equal(catalog.features["text"], encoder.catalog_.features["text"])
    assert not counting.encoded


def test_clone_shares_models_and_copies_transformers():
    class Model:
        def encode(self, texts, **options):
            return np.ones((len(texts), 2))

        def __deepcopy__(self, memo):
            raise AssertionError("a model of 100 MB was copied")

    model, words = Model(), TfidfVectorizer()
    original = MultimodalEncoder({"text": model, "title": words}).set_output(transform="pandas")
    copied = clone(original)
    assert copied.encoders["text"] is model
    assert copied.encoders["title"] is not words
    assert copied._sklearn_output_config == original._sklearn_output_config


class Recorder:
    """A scikit-learn callback that writes down the tasks."""

    def __init__(self):
        self.tasks = []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context):
        self.tasks.append((context.task_name, context.max_subtasks))

    def on_fit_task_end(self, estimator, context): ...


def test_modalities_and_batches_are_tasks_of_callbacks(catalog):
    recorder = Recorder()
    MultimodalEncoder(batch_size=5).set_callbacks(recorder).fit(catalog)
    batch = ("batch", 0)  # the default encoder takes all texts at once
    text, image = ("encode text", 1), ("encode image", 3)
    assert recorder.tasks == [("fit", 2), text, batch, image, batch, batch, batch]


def test_progress_bar(catalog, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    MultimodalEncoder().set_callbacks(ProgressBar()).fit(catalog)
    MultimodalEncoder(verbose=2).fit(catalog)
    assert "[MultimodalEncoder] text: encoded 0 items in" in capsys.readouterr().out


def test_broken_content_is_masked_whatever_the_modality_is_called():
    content = {"poster": ["nowhere.png", None, None], "plot": ["a b c", 7, "b c d"]}
    encoders = {"poster": ImageStatisticsEncoder(), "plot": TfidfEncoder(2)}
    catalog = ItemCatalog([1, 2, 3], content=content)
    with pytest.warns(UserWarning, match=r"plot: 1 of 3 items.*poster: 3 of 3 items") as record:
        fitted = MultimodalEncoder(encoders).fit(catalog)
    assert len(record) == 1
    missing = {name: list(ids) for name, ids in fitted.missing_.items()}
    assert missing == {"plot": [2], "poster": [1, 2, 3]}
    assert list(fitted.transform(catalog).features) == ["plot"]  # nobody has a poster


@pytest.mark.parametrize("spec", ["", TfidfEncoder, "timm:", "timm:/file.pth", "open_clip:/"])
def test_what_stands_for_no_encoder(spec):
    catalog = ItemCatalog([1, 2], content={"text": ["a", "b"]})
    with pytest.raises((TypeError, ValueError), match=r"encoders\['text'\]"):
        MultimodalEncoder({"text": spec}).fit(catalog)


@pytest.mark.parametrize("cache", ["", "a\0b"])
def test_a_cache_that_is_no_folder(cache):
    with pytest.raises(ValueError, match="cache must be the path of a folder"):
        MultimodalEncoder(cache=cache).fit(ItemCatalog([1, 2], content={"text": ["a", "b"]}))


@pytest.mark.parametrize("value", [True, 1.5, -1])
def test_a_batch_size_that_is_none(value):
    with pytest.raises(ValueError, match="The 'batch_size' parameter"):
        MultimodalEncoder(batch_size=value).fit(ItemCatalog([1], content={"text": ["a"]}))
