"""Attributes: the same from every kind of column, at the cost of what is asked, or refused."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from skmars import ItemCatalog, MultimodalEncoder
from skmars.data._attributes import Attribute
from skmars.data._catalog import MAX_PARTS

TEXT = st.text("ab é|", max_size=3)
NUMBER = st.floats(allow_infinity=False, width=32) | st.integers(-5, 10**6)


def entries(kind: str, n: int) -> st.SearchStrategy:
    of = {
        "number": st.none() | NUMBER,
        "category": st.none() | TEXT,
        "boolean": st.none() | st.booleans(),
        "list": st.none() | st.lists(TEXT, max_size=3),
    }[kind]
    return st.lists(of, min_size=n, max_size=n)


def plain(kind: str, values: list) -> list:
    """What an attribute of these entries holds, in plain Python."""
    if kind == "list":
        return [[v for v in row or [] if v.strip()] for row in values]
    if kind == "number":
        return [np.nan if v is None else float(v) for v in values]
    return [None if v is None or not str(v).strip() else str(v) for v in values]


def columns(kind: str, values: list) -> dict:
    """The same entries in every form."""
    inner = {"list": pl.List(pl.String), "number": pl.Float64, "boolean": pl.Boolean}
    polars = pl.Series("x", values, dtype=inner.get(kind, pl.String), strict=False)
    arrow = polars.to_arrow()
    forms = {
        "polars": polars,
        "arrow": pa.chunked_array([arrow]),
        "arrow array": arrow,
        "chunks": pa.chunked_array([arrow[:1], arrow[1:]]),
        "pandas": pd.Series(values, dtype=object),
        "pandas arrow": pd.Series(pd.array(arrow, dtype=pd.ArrowDtype(arrow.type))),
        "list": values,
    }
    if kind == "category":
        forms["polars categories"] = polars.cast(pl.Categorical)
        forms["polars enum"] = polars.cast(pl.Enum(sorted({v for v in values if v is not None})))
        forms["pandas categories"] = pd.Series(values, dtype=object).astype("category")
        forms["arrow dictionary"] = arrow.dictionary_encode()
        forms["strings"] = pd.Series(values, dtype="string")
    if kind == "boolean":
        forms["nullable"] = pd.Series(values, dtype="boolean")
    if kind == "number":
        forms["array"] = np.array(values, dtype=np.float64)
        forms["nullable"] = pd.Series(np.array(values, dtype=np.float64)).astype("Float64")
        forms["masked"] = np.ma.masked_invalid(np.array(values, dtype=np.float64))
    if kind == "list":
        forms["polars categories"] = polars.cast(pl.List(pl.Categorical))
        forms["large"] = arrow.cast(pa.large_list(pa.string()))
        forms["view"] = pa.array(values, type=pa.list_view(pa.string()))
        forms["arrays"] = [None if v is None else np.array(v, dtype=object) for v in values]
        forms["tuples"] = [None if v is None else tuple(v) for v in values]
    return forms


@given(st.sampled_from(["number", "category", "boolean", "list"]), st.data())
def test_every_kind_of_column_gives_the_same(kind, data) -> None:
    n = data.draw(st.integers(1, 4))
    values = data.draw(entries(kind, n))
    if all(v is None for v in values):
        values[0] = {"number": 1.5, "category": "a", "boolean": True, "list": ["a"]}[kind]
    expected = ItemCatalog(range(n), attributes={"x": values})
    np.testing.assert_equal(expected.attributes["x"].to_list(), plain(kind, values))
    for name, column in columns(kind, values).items():
        found = ItemCatalog(range(n), attributes={"x": column})
        assert found.fingerprint == expected.fingerprint, name
    for frame in (pd.DataFrame, pl.DataFrame, pa.table):
        table = frame({"item_id": range(n), "y": columns(kind, values)["arrow"].to_pylist()})
        found = ItemCatalog.from_frame(table, attributes={"x": "y"})
        assert found.fingerprint == expected.fingerprint


@given(st.sampled_from(["number", "category", "list"]), st.data())
def test_entries_are_those_of_the_whole_however_it_came_about(kind, data) -> None:
    n = data.draw(st.integers(1, 4))
    values = data.draw(entries(kind, n))
    base = ItemCatalog(range(n), attributes={"x": values})
    whole = base
    for new in data.draw(st.lists(st.integers(1, 3), max_size=12)):
        whole = whole.extend(range(len(whole), len(whole) + new))
    nothing = base.attributes["x"].nothing(len(whole) - n).to_list()
    expected = base.attributes["x"].to_list() + nothing
    np.testing.assert_equal(whole.attributes["x"].to_list(), expected)
    codes = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=6)), dtype=int)
    taken = whole.take_attribute("x", codes)
    np.testing.assert_equal(taken.to_list(), [expected[i] for i in codes])
    missing = [v is None or v == [] or v != v for v in expected]
    assert whole.attributes["x"].missing.tolist() == missing
    again = pickle.loads(pickle.dumps(whole))
    assert again.fingerprint == whole.fingerprint
    np.testing.assert_equal(again.take_attribute("x", codes).to_list(), taken.to_list())


def small() -> ItemCatalog:
    return ItemCatalog(
        [5, 6, 7],
        content={"text": ["a toy", "a book", None]},
        attributes={"price": [1.5, None, 3.0], "tags": [["new", "red"], [], ["red"]]},
    )


def test_any_change_of_an_attribute_is_another_catalogue() -> None:
    def built(**changes) -> str:
        given = {"price": [1.5, None, 3.0], "tags": [["new", "red"], [], ["red"]], **changes}
        attributes = {k: v for k, v in given.items() if v is not None}
        return ItemCatalog([5, 6, 7], attributes=attributes).fingerprint

    marks = [
        built(),
        built(price=[1.5, None, 3.5]),
        built(price=[1.5, 0.0, 3.0]),
        built(tags=[["new", "red"], ["red"], []]),
        built(tags=[["new"], ["red"], ["red"]]),
        built(tags=[["new", "blue"], [], ["blue"]]),
        built(tags=None),
        built(tags=None, label=[["new", "red"], [], ["red"]]),
        built(tags=["new", None, "red"]),
        ItemCatalog([5, 6, 7]).fingerprint,
    ]
    assert len(set(marks)) == len(marks)
    assert built(price=np.array([1.5, np.nan, 3.0], dtype=np.float32)) == marks[0]


def test_what_derives_from_a_catalogue_keeps_its_attributes() -> None:
    catalog = small().extend([8])
    tags = [["new", "red"], [], ["red"], []]
    derived = [
        catalog.with_features({"audio": np.ones((4, 2))}),
        catalog.with_embedding(np.ones((4, 2))),
        catalog.with_folds([catalog]),
        catalog.with_folds([catalog]).in_fold(0),
        MultimodalEncoder().fit_transform(catalog),
        copy.deepcopy(catalog),
        clone(catalog),
    ]
    for other in derived:
        assert other.attributes["tags"].to_list() == tags
    changed = derived[2].with_attributes({"colour": ["a", "b", None, "a"], "price": [1, 2, 3, 4]})
    assert list(changed.attributes) == ["price", "tags", "colour"]
    for version in (changed, changed.in_fold(0)):
        assert version.attributes["colour"].to_list() == ["a", "b", None, "a"]
        assert version.take_attribute("price", np.array([3, 0])).to_list() == [4, 1]
        assert version.attributes["tags"].to_list() == tags
    assert changed.extend([9]).attributes["colour"].to_list() == ["a", "b", None, "a", None]
    assert changed.parts[0].content["text"] is catalog.parts[0].content["text"]


def test_arrays_of_attributes_are_mapped_into_memory_and_safe(tmp_path: Path) -> None:
    prices = np.arange(5.0)
    catalog = ItemCatalog(range(5), attributes={"price": prices, "kind": list("abcab")})
    prices[:] = 9
    assert catalog.attributes["price"].to_list() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="read-only"):
        catalog.attributes["price"].values[0] = 7
    with pytest.raises(TypeError):
        catalog.attributes["price"] = None  # type: ignore[index]
    joblib.dump(catalog, tmp_path / "catalog")
    mapped = joblib.load(tmp_path / "catalog", mmap_mode="r")
    assert isinstance(mapped.attributes["price"].values, np.memmap)
    assert mapped.fingerprint == catalog.fingerprint
    assert pickle.dumps(catalog) == pickle.dumps(ItemCatalog(range(5), attributes={
        "price": np.arange(5.0), "kind": list("abcab")
    }))  # fmt: skip


def test_how_it_looks() -> None:
    assert repr(small()) == "ItemCatalog(3 items, content: text, attributes: price, tags)"
    html = small()._repr_html_()
    assert '>price</th><th scope="col">tags</th>' in html
    assert '<td class="number">1.5</td><td>new, red</td>' in html
    assert "price 1 (33%), tags 1 (33%)" in html
    assert repr(small().attributes["tags"]) == (
        "Attribute(3 entries, lists of 2 categories, 1 missing)"
    )


def test_columns_of_pandas_are_named_alike_with_and_without_missing_ones() -> None:
    whole = pd.Series([1, 2, 1]).astype("category")
    some = pd.Series([1, 2, None]).astype("category")
    assert ItemCatalog([1, 2, 3], attributes={"x": whole}).attributes["x"].to_list() == list("121")
    assert ItemCatalog([1, 2, 3], attributes={"x": some}).attributes["x"].to_list() == [
        *("1", "2"),
        None,
    ]


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([{"a": 1}, {}, {}], TypeError, "attributes['x'] holds dict; an attribute holds numbers"),
        (["a", 1, 2], TypeError, "attributes['x'] holds int and str"),
        ([True, 1, 2], TypeError, "holds bool and int"),
        ([["a"], "b", None], TypeError, "holds list and str"),
        ([{"a"}, {"b"}, {"c"}], TypeError, "holds set"),
        ([[1], [2], []], TypeError, "holds lists of int; lists of an attribute hold strings"),
        ([["a"], [["b"]], []], TypeError, "holds lists of list and str"),
        ([b"a", b"b", b"c"], TypeError, "holds bytes"),
        (pd.to_datetime(["2020-01-01"] * 3), TypeError, "holds datetime"),
        (np.zeros((3, 2)), ValueError, "one value an entry, got shape (3, 2). Vectors"),
        ([1.0, np.inf, -np.inf], ValueError, "2 infinite numbers (first: entry 1)"),
        ([1, 2], ValueError, "attributes['x'] has 2 entries for 3 items"),
        (["\ud800", "a", "b"], ValueError, "strings that are no text"),
        ("abc", TypeError, "must be a sequence with one entry each, got 'abc'"),
        (5, TypeError, "must be a sequence with one entry each, got 5"),
        (pd.DataFrame({"a": [1, 2, 3]}), TypeError, "got DataFrame"),
    ],
)
def test_what_is_no_attribute_is_refused(values, error, message) -> None:
    with pytest.raises(error) as raised:
        ItemCatalog([1, 2, 3], attributes={"x": values})
    assert message in str(raised.value)


def test_names_are_names_and_mean_one_thing() -> None:
    items = pd.DataFrame({"item_id": [1, 2], "text": ["a", "b"], "price": [1.0, 2.0]})
    for attributes, error, message in (
        ("price", TypeError, "attributes must be a list of columns, got 'price'. Pass ['price']"),
        (["price", "price"], ValueError, "attributes names the column 'price' twice"),
        (["prize"], ValueError, "items has no column 'prize'"),
        (["text"], ValueError, "attributes names 'text', which is a modality of the catalogue"),
        ({1: "price"}, TypeError, "attributes must name its columns by strings, got 1"),
        (5, TypeError, "attributes must be a list of columns, got 5"),
    ):
        with pytest.raises(error) as raised:
            ItemCatalog.from_frame(items, attributes=attributes)
        assert message in str(raised.value)
    catalog = ItemCatalog.from_frame(items, attributes={"cost": "price"})
    assert catalog.attributes["cost"].to_list() == [1.0, 2.0]
    with pytest.raises(TypeError, match="attributes must be a mapping from the name of an attri"):
        ItemCatalog([1, 2], attributes=["price"])
    with pytest.raises(ValueError, match="'text', which is a modality"):
        catalog.with_attributes({"text": [1, 2]})
    assert isinstance(catalog.attributes["cost"], Attribute)


def test_a_catalogue_with_features_of_the_name_of_an_attribute_is_extended() -> None:
    catalog = ItemCatalog([1, 2], attributes={"price": [3.0, None]})
    catalog = catalog.with_features({"price": np.eye(2)})
    for new in range(3, 3 + 3 * MAX_PARTS):
        catalog = catalog.extend([new])
    assert catalog.attributes["price"].to_list()[0] == 3.0
    assert len(catalog.attributes["price"]) == len(catalog.features["price"]) == 2 + 3 * MAX_PARTS
    assert pickle.loads(pickle.dumps(catalog)).fingerprint == catalog.fingerprint
