"""What the aligner asks of catalogue, columns and clicks, and what it says if it is not there."""

from __future__ import annotations

import numpy as np
import pytest

from skmars import ItemCatalog
from skmars.alignment._clicks import click_target
from skmars.alignment._modalities import block_sizes, check_features, modality_names

FEATURES = {"text": np.ones((3, 4)), "image": np.full((3, 2), np.nan)}
CATALOG = ItemCatalog([7, 8, 9], features=FEATURES, missing={"image": np.ones(3, bool)})


def test_modalities_are_all_there_are_or_those_named_in_their_order() -> None:
    assert modality_names(None, CATALOG) == ["text", "image"]
    assert modality_names(("image", "text"), CATALOG) == ["image", "text"]
    assert modality_names((), ItemCatalog([1])) == []
    with pytest.raises(ValueError, match=r"no modality features.*MultimodalEncoder.*\(\) to learn"):
        modality_names(None, ItemCatalog([1]))
    with pytest.raises(ValueError, match="names 'audio', but the catalogue .*'text', 'image'"):
        modality_names(["audio"], CATALOG)
    with pytest.raises(ValueError, match="names a modality twice"):
        modality_names(["text", "text"], CATALOG)


def test_features_that_an_item_lacks_are_not_looked_at() -> None:
    check_features(CATALOG, {"text": 4, "image": 2})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"audio": 4}, "no features of modality 'audio', it has .*'text', 'image'.*of fit"),
        ({"text": 5}, "'text' have 4 columns, but the aligner was fitted with 5"),
    ],
)
def test_a_catalogue_other_than_that_of_fit(sizes, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_features(CATALOG, sizes)


def test_features_that_are_not_finite_name_the_items_once_and_the_way_out() -> None:
    catalog = CATALOG.with_features({"image": FEATURES["image"]}, {"image": [True, False, False]})
    message = r"'image' contain NaN .* 2 items \(ids 8, 9\).*missing=\{'image': mask\}"
    with pytest.raises(ValueError, match=message):
        check_features(catalog, {"image": 2})


def test_columns_of_an_array_are_two_halves_or_blocks_as_given() -> None:
    assert block_sizes(None, 5) == [2, 3]
    assert block_sizes(None, 1) == [1]
    assert block_sizes(np.array([1, 4]), 5) == [1, 4]
    with pytest.raises(ValueError, match=r"sums to 4, but X has 5 columns"):
        block_sizes([2, 2], 5)
    for wrong in (["text"], [0, 5], [2.5, 2.5]):
        with pytest.raises(ValueError, match="X is an array.*for example modalities="):
            block_sizes(wrong, 5)


def test_one_class_will_do_for_a_further_batch_if_it_says_which() -> None:
    assert click_target([1, 1], 2, "A", one_class=True).tolist() == [1.0, 1.0]
    assert click_target([False, False], 2, "A", one_class=True).tolist() == [0.0, 0.0]
    assert click_target(["no", "yes"], 2, "A", one_class=True).tolist() == [0.0, 1.0]
    for y, one_class in (([1, 1], False), ([2, 2], True), (["yes", "yes"], True)):
        with pytest.raises(ValueError, match="A needs rows of two classes"):
            click_target(y, 2, "A", one_class=one_class)
    with pytest.raises(ValueError, match="inconsistent numbers of samples: X has 3 rows"):
        click_target([1, 1], 3, "A", one_class=True)
