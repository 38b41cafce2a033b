"""The offline text encoder."""

from __future__ import annotations

import numpy as np
import pytest

from skmars import ItemCatalog, MultimodalEncoder
from skmars.encoding import TfidfEncoder


@pytest.mark.parametrize("texts", [["train"], ["train", "train"], ["a b c", "d e", "f"]])
@pytest.mark.parametrize("n_components", [1, 2, 5, 128])
def test_the_rank_adapts_to_small_catalogues(texts, n_components):
    encoder = TfidfEncoder(n_components).fit(texts)
    vectors = encoder.transform(texts)
    assert vectors.shape == (len(texts), encoder.n_components_)
    assert encoder.n_components_ <= n_components
    assert len(encoder.get_feature_names_out()) == encoder.n_components_
    if n_components == 128:
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_texts_on_the_same_subject_are_close():
    toys = ["a wooden toy train", "a toy train with rails", "wooden rails for a train"]
    food = ["a cook book", "how to cook soup", "soup and other food: a book"]
    vectors = TfidfEncoder(2).fit_transform([*toys, *food])
    cosine = vectors @ vectors.T
    assert cosine[:3, :3].min() > cosine[:3, 3:].max()
    assert cosine[3:, 3:].min() > cosine[:3, 3:].max()


def test_unknown_words_give_zero():
    assert not TfidfEncoder().fit(["a b", "b c"]).transform(["zebra"]).any()


def test_no_word_at_all():
    with pytest.raises(ValueError, match="text encoder could not be fitted: empty vocabulary"):
        MultimodalEncoder().fit(ItemCatalog([1, 2], content={"text": ["!!!", "?"]}))
