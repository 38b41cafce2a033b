"""What gets through the door: exact ids, numbers and times; all else is refused by name."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skmars import Impressions, ItemCatalog
from skmars.data import Sequences
from skmars.data._activity import UserActivity
from skmars.data._checks import as_impressions
from skmars.data._user_histories import UserHistories
from skmars.metrics import gauc_score, retrieval_precision_at_k

BIG = 2**63 + 5
U = UUID(int=5)


class Genre(enum.StrEnum):
    DRAMA = "drama"


def log_of(**columns) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [1, 1, 2], "item_id": [5, 6, 5], **columns})


def histories(X: Impressions) -> list[list]:
    return [X.catalog.ids[X.history.row(i)].tolist() for i in range(len(X))]


# --- ids -----------------------------------------------------------------------------------------

KEPT = [
    (pd.Series([BIG, 7], dtype="uint64"), [BIG, 7]),
    (pd.Series([BIG, 7], dtype=object), [BIG, 7]),
    (pd.Series([3, 7], dtype="int8"), [3, 7]),
    (pd.Series([3.0, 7.0]), [3, 7]),
    (pd.Series([3, 7], dtype="Int64"), [3, 7]),
    (pd.Series([3, 7], dtype=pd.ArrowDtype(pa.uint64())), [3, 7]),
    (pd.Series([Decimal(2**60 + 1), Decimal("7.0")]), [2**60 + 1, 7]),
    (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
    (pd.Series([3, 7], dtype="category"), [3, 7]),
    (pd.Series(["a", "b"], dtype="string"), ["a", "b"]),
    (pd.Series(["a", "b"], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))), ["a", "b"]),
    (pd.Series([U, U]), [str(U), str(U)]),
    (pd.Series([np.str_("a"), "b"], dtype=object), ["a", "b"]),
    (pd.Series([Genre.DRAMA, "b"], dtype=object), ["drama", "b"]),
    (pl.Series([BIG, 7], dtype=pl.UInt64), [BIG, 7]),
    (pl.Series([BIG, 7], dtype=pl.Int128), [BIG, 7]),
    (pl.Series([Decimal(3), Decimal(7)]), [3, 7]),
    (pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])), ["a", "b"]),
    (pl.Series([U, U], dtype=pl.Object), [str(U), str(U)]),
    (pa.array([BIG, 7], type=pa.uint64()), [BIG, 7]),
    (pa.array([U.bytes, U.bytes], type=pa.uuid()), [str(U), str(U)]),
    (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    (pa.array(["a", "b"], type=pa.string_view()), ["a", "b"]),
]

REFUSED = [
    (pd.Series([2.0**53, 1]), ValueError, r"floats from 2\*\*53 on"),
    (pd.Series([2.0**24, 1], dtype="float32"), ValueError, r"floats from 2\*\*24 on"),
    (pl.Series([2.0**24, 1], dtype=pl.Float32), ValueError, r"floats from 2\*\*24 on"),
    (pd.Series([2**70, 1], dtype=object), ValueError, "64 bits can't hold"),
    (pd.Series([-1, BIG], dtype=object), ValueError, "64 bits can't hold"),
    (pd.Series(["", "a"]), ValueError, "1 empty strings"),
    (pd.Series(["\ud800", "a"], dtype=object), ValueError, "no text"),
    (pd.Series([1, None], dtype="Int64"), ValueError, "1 missing ids"),
    (pd.Series(["a", None]), ValueError, "1 missing ids"),
    (pd.Series(["a", None], dtype="category"), ValueError, "1 missing ids"),
    (pd.Series([1, None], dtype=pd.ArrowDtype(pa.int64())), ValueError, "1 missing ids"),
    (pd.Series([Decimal("NaN"), Decimal(1)]), ValueError, "1 missing ids"),
    (pd.Series([Decimal("Infinity"), Decimal(1)]), TypeError, "Infinity"),
    (pd.Series([Decimal("1.5"), Decimal(1)]), TypeError, "1.5"),
    (pl.Series([1, None]), ValueError, "1 missing ids"),
    (pl.Series([None, None]), ValueError, "2 missing ids"),
    (pa.array(["a", None]), ValueError, "1 missing ids"),
    (pd.Series([True, False]), TypeError, "bool"),
    (pl.Series([True, None]), ValueError, "missing"),
    (pd.Series([1, "a"], dtype=object), TypeError, "got int and str"),
    (pd.Series([1, True], dtype=object), TypeError, "got bool and int"),
    (pd.Series([b"a", b"b"]), TypeError, "got bytes"),
    (pa.array([b"ab", b"cd"], type=pa.binary(2)), TypeError, "got bytes"),
    (pd.Series([dt.date(2020, 1, 1)] * 2), TypeError, "got date"),
    (pd.Series(pd.to_datetime(["2020-01-01"] * 2)), TypeError, "datetime64"),
    (pd.Series([[1], [2]]), TypeError, "got list"),
    (pl.Series([[1], [2]]), TypeError, "got list"),
    (pd.Series([1j, 2j]), TypeError, "complex"),
]


def table(column: str, values, **others):
    make = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    return make[type(values).__module__.split(".")[0]]({column: values, **others})


@pytest.mark.parametrize(("values", "kept"), KEPT)
def test_ids_of_any_kind_keep_their_value(values, kept) -> None:
    assert ItemCatalog.from_frame(table("i", values[:1]), item="i").ids.tolist() == kept[:1]
    X, _ = Impressions.from_log(table("item_id", values, user_id=[1, 1]))
    assert X.item_ids.tolist() == kept
    Z, _ = Impressions.from_log(table("user_id", values, item_id=[1, 1]))
    assert Z.user_ids.tolist() == kept
    assert ItemCatalog(values[:1]).ids.tolist() == kept[:1]


@pytest.mark.parametrize(("values", "error", "message"), REFUSED)
def test_ids_that_cannot_be_kept_are_refused_by_name(values, error, message) -> None:
    with pytest.raises(error, match=rf"column 'item_id' of log .*{message}"):
        Impressions.from_log(table("item_id", values, user_id=[1, 2]))
    with pytest.raises(error, match=rf"column 'user_id' of log .*{message}"):
        Impressions.from_log(table("user_id", values, item_id=[1, 2]))
    with pytest.raises(error, match=rf"column 'i' of items .*{message}"):
        ItemCatalog.from_frame(table("i", values), item="i")


@pytest.mark.parametrize(
    "rows",
    [
        pd.Series([[BIG, 7], None, [7]]),
        pd.Series([np.array([BIG, 7], dtype="uint64"), np.array([]), np.array([7])]),
        pd.Series([(BIG, 7), [], np.array([7])]),
        pd.Series(
            [pa.array([BIG, 7], type=pa.uint64()), pl.Series([], dtype=pl.Int64), pd.Series([7])]
        ),
        pd.Series([[BIG, 7], None, [7]], dtype=pd.ArrowDtype(pa.list_(pa.uint64()))),
        pl.Series([[BIG, 7], None, [7]], dtype=pl.List(pl.UInt64)),
        pa.array([[BIG, 7], None, [7]], type=pa.list_(pa.uint64())),
        pa.array([[BIG, 7], None, [7]], type=pa.large_list(pa.uint64())),
        pa.array([[BIG, 7], None, [7]], type=pa.list_view(pa.uint64())),
    ],
)
def test_list_columns_of_any_kind(rows) -> None:
    X = Impressions.from_frame(table("history", rows, user_id=[1, 2, 3], item_id=[7, 7, 7]))
    assert histories(X) == [[BIG, 7], [], [7]]


@pytest.mark.parametrize(
    "rows",
    [
        pl.Series([[8, 9], [9, 8]], dtype=pl.Array(pl.Int64, 2)),
        pa.array([[8, 9], [9, 8]], type=pa.list_(pa.int64(), 2)),
        pd.Series([np.array([8, 9]), np.array([9, 8])]),
        pd.Series([[8, 9], [9, 8]], dtype=pd.ArrowDtype(pa.list_(pa.int64(), 2))),
    ],
)
def test_lists_of_fixed_size(rows) -> None:
    assert histories(
        Impressions.from_frame(table("history", rows, user_id=[1, 2], item_id=[7, 7]))
    ) == [[8, 9], [9, 8]]
    items = table("v", rows, item_id=[1, 2])
    catalog = ItemCatalog.from_frame(items, features={"audio": "v"})
    assert catalog.features["audio"].tolist() == [[8, 9], [9, 8]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pd.Series([[1, None]]), "1 missing ids"),
        (pl.Series([[1, None]]), "1 missing ids"),
        (pa.array([["a", None]]), "1 missing ids"),
        (pd.Series([[[1, 2]]]), "got list"),
        (pl.Series([[[1, 2]]]), "got list"),
        (pd.Series([np.eye(2)]), "got ndarray"),
        (pd.Series([[1, "a"]]), "got int and str"),
        (pd.Series([{1: 2}]), "must hold a list in every row"),
        (pd.Series([frozenset([1])]), "must hold a list in every row"),
        (pd.Series([np.array(5)], dtype=object), "must hold a list in every row"),
        (pl.Series([3]), "must hold a list in every row"),
        (pd.Series([["a"]]), "holds strings but column 'item_id' of X holds integers"),
    ],
)
def test_lists_that_are_none(rows, message) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"column 'history' of X .*{message}"):
        Impressions.from_frame(table("history", rows, user_id=[1], item_id=[1]))


def test_widths_are_mixed_without_loss() -> None:
    catalog = ItemCatalog(np.array([BIG, 7], dtype=np.uint64))
    X, _ = Impressions.from_log(log_of(item_id=np.array([7, 7, 7], dtype=np.int8)), catalog)
    assert X.item_ids.tolist() == [7, 7, 7]
    log = log_of(item_id=[7, 7, -3])
    with pytest.warns(UserWarning, match=r"1 items of log .*\(-3\)"):
        extended, _ = Impressions.from_log(log, ItemCatalog(np.array([7], dtype=np.uint64)))
    assert extended.catalog.ids.tolist() == [7, -3]
    assert catalog.codes([BIG, BIG - 1, 7]).tolist() == [0, -1, 1]
    assert catalog.codes([-1, 7]).tolist() == [-1, 1]
    with pytest.raises(ValueError, match=r"ids hold both -1 and integers beyond 2\*\*63"):
        catalog.extend([-1])
    assert catalog.extend([1]).ids.tolist() == [BIG, 7, 1]


def test_masked_ids_are_missing() -> None:
    assert ItemCatalog(np.ma.array([1, 2], mask=[False, False])).ids.tolist() == [1, 2]
    with pytest.raises(ValueError, match="ids of the catalogue holds 1 missing"):
        ItemCatalog(np.ma.array([1, 2], mask=[False, True]))


def test_a_modality_has_one_column() -> None:
    items = pd.DataFrame({"item_id": [1], "a": ["a"], "b": ["b"]})
    with pytest.raises(ValueError, match=r"content\['text'\] and text= name two columns"):
        ItemCatalog.from_frame(items, text="a", content={"text": "b"})


def test_users_of_another_kind_than_in_fit() -> None:
    X, _ = Impressions.from_log(log_of())
    Z, _ = Impressions.from_log(log_of(user_id=["1", "1", "2"]))
    with pytest.raises(TypeError, match="user_id of X holds strings but user_id of the rows of f"):
        UserActivity.of(X)[0].codes(Z)


def test_labels_of_metrics_are_ids() -> None:
    labels = np.array([BIG, 7], dtype=np.uint64)
    X = np.eye(2)
    same = {"query_labels": labels, "candidate_labels": [7, 7]}
    assert retrieval_precision_at_k(X, X, **same) == 1.0
    with pytest.raises(TypeError, match="query_labels holds integers but candidate_labels holds"):
        retrieval_precision_at_k(X, X, query_labels=[1, 2], candidate_labels=["1", "2"])
    with pytest.raises(ValueError, match="users holds 1 missing"):
        gauc_score([0, 1], [0.1, 0.2], ["a", None])
    assert gauc_score([0, 1], [0.1, 0.2], pa.array(["a", "a"])) == 1.0
    with pytest.raises(TypeError, match="y_score must hold numbers"):
        gauc_score([0, 1], ["a", "b"], [1, 1])


# --- arguments taken on trust --------------------------------------------------------------------

ITEMS = pd.DataFrame({"item_id": [5, 6], "text": ["a", "b"]})
HISTORY = {"user_id": [1], "item_id": [5], "history": [[6]]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Impressions.from_log(log_of(), ITEMS), "catalog must be an ItemCatalog"),
        (
            lambda: Impressions.from_frame(pd.DataFrame(HISTORY), ITEMS),
            "catalog must be an ItemCatalog",
        ),
        (lambda: Impressions.from_log(log_of())[0].with_catalog(ITEMS), "catalog must be an Item"),
        (lambda: ItemCatalog(ITEMS), "ids must be an array of item ids, got a DataFrame"),
        (lambda: ItemCatalog(ItemCatalog([1])), "ids must be an array of item ids, got a ItemCat"),
        (lambda: ItemCatalog({5: 1}), "ids of the catalogue must be a sequence"),
        (lambda: ItemCatalog({5, 6}), "ids of the catalogue must be a sequence"),
        (lambda: ItemCatalog(5), "ids of the catalogue must be a sequence"),
        (lambda: ItemCatalog([5]).extend(ITEMS), "ids must be one column of ids, got a DataFrame"),
        (lambda: ItemCatalog([5], content=ITEMS), "content must be a mapping.*got DataFrame"),
        (lambda: ItemCatalog([5], features=ITEMS), "features must be a mapping.*got DataFrame"),
        (lambda: ItemCatalog([5, 6], content={"text": ITEMS}), r"content\['text'\] must be a.*Fr"),
        (lambda: ItemCatalog([5], content={"text": np.array("a")}), r"content\['text'\] must be a"),
        (lambda: ItemCatalog([5, 6], content={"text": {"a", "b"}}), r"content\['text'\] must be a"),
        (lambda: ItemCatalog.from_frame(ITEMS, content="text"), "content must be a mapping"),
        (lambda: ItemCatalog.from_frame(ITEMS, features=["text"]), "features must be a mapping"),
        (lambda: ItemCatalog.from_frame(ITEMS, item=None), "column of items is named by a string"),
        (lambda: ItemCatalog.from_frame(ITEMS, title=3.5), "column of items is named by a string"),
        (
            lambda: ItemCatalog.from_frame(ITEMS, features={"a": "text"}),
            "column 'text' of items must hold a list",
        ),
    ],
)
def test_what_is_meant_to_be_something_else(call, message) -> None:
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"context": ["clicked"]}, ValueError, "'clicked' of log is named twice: as label and"),
        ({"context": ["user_id"]}, ValueError, "'user_id' of log is named twice"),
        ({"context": ["when"], "time": "when"}, ValueError, "'when' of log is named twice"),
        ({"context": ["step"], "order": "step"}, ValueError, "'step' of log is named twice"),
        ({"context": ["hour", "hour"]}, ValueError, "'hour' of log is named twice"),
        ({"item": "user_id"}, ValueError, "'user_id' of log is named twice: as user and as item"),
        ({"label": "item_id"}, ValueError, "named twice: as item and as label"),
        ({"order": "clicked"}, ValueError, "named twice: as label and as order"),
        ({"context": ["history"]}, ValueError, "'history' of log can't be context"),
        ({"context": ["user_fold"]}, ValueError, "can't be context"),
        ({"context": ["borrowed_donor"]}, ValueError, "can't be context"),
        ({"context": ["lookalike_support"]}, ValueError, "can't be context"),
        ({"context": ["lists"]}, TypeError, "'lists' of log holds list"),
        ({"context": None}, TypeError, "context must be a list of columns, got None"),
        ({"context": {"hour": 1}}, TypeError, "context must be a list of columns"),
        ({"context": [None]}, TypeError, "context must be the name of a column"),
        ({"user": None}, TypeError, "user must be the name of a column of the log, got None"),
        ({"item": ["item_id"]}, TypeError, "item must be the name of a column"),
        ({"label": True}, TypeError, "label must be the name of a column"),
        ({"time": 3.5}, TypeError, "time must be the name of a column"),
        ({"history": True}, ValueError, "history must be 'positive' or 'all', got True"),
        ({"history": np.zeros(2)}, ValueError, "history must be 'positive' or 'all'"),
        ({"duplicates": None}, ValueError, "duplicates must be 'warn', 'keep' or 'drop', got None"),
    ],
)
def test_parameters_of_a_log(arguments, error, message) -> None:
    log = log_of(
        clicked=[1, 0, 1], when=[1, 2, 3], step=[1, 2, 3], hour=[7, 8, 9], lists=[[1], [2], []]
    )
    for name in ("history", "user_fold", "borrowed_donor", "lookalike_support"):
        log[name] = 1.0
    with pytest.raises(error, match=message):
        Impressions.from_log(log, **{"label": "clicked", "time": None, **arguments})


def test_an_order_may_be_that_of_the_times() -> None:
    X, _ = Impressions.from_log(log_of(timestamp=[2, 1, 3]), order="timestamp")
    assert histories(X) == [[6], [], []]


GOOD = {
    "catalog": ItemCatalog([5, 6, 7]),
    "users": [1, 2],
    "user": [0, 1],
    "target": [0, 2],
    "history": Sequences([1, 2, 0], [0, 1], [1, 2]),
}


def test_impressions_by_hand_are_converted() -> None:
    X = Impressions(**GOOD, time=[1, 2], context={"city": np.array(["Rome", "Oslo"])}, fold=[0, 1])
    assert histories(X) == [[6], [7, 5]]
    assert X.user.dtype == X.target.dtype == X.history.items.dtype == np.int32
    assert (X.time.dtype, X.fold.dtype, X.context["city"].dtype) == (np.float64, np.int8, object)
    assert X.user_ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"catalog": ITEMS}, "catalog must be an ItemCatalog"),
        ({"users": [1, 1]}, "users must hold distinct ids"),
        ({"users": [1, None]}, "users holds 1 missing ids"),
        ({"user": [0, 2]}, "user holds 2 at position 1, but must lie between 0 and 1"),
        ({"user": [0.5, 1]}, "user must hold int32 numbers"),
        ({"user": [[0, 1]]}, "user must be one-dimensional"),
        ({"target": [0, 3]}, "target holds 3 at position 1.*the catalogue"),
        ({"target": [-1, 0]}, "target holds -1 at position 0"),
        ({"target": [2**40, 0]}, "target holds 1099511627776, too large"),
        ({"target": [0]}, "target has 1 rows, but user has 2"),
        ({"history": [[1], [2]]}, "history must be Sequences, got list"),
        ({"history": Sequences([9], [0, 0], [1, 1])}, "history.items holds 9"),
        ({"history": Sequences.empty(3)}, "history has 3 rows, but user has 2"),
        ({"borrowed": Sequences([9], [0, 0], [1, 1])}, "borrowed.items holds 9"),
        ({"time": ["a", "b"]}, "time must hold float64 numbers"),
        ({"time": [np.nan, 1]}, "time holds NaN"),
        ({"time": [1]}, "time has 1 rows"),
        ({"context": [[1, 2]]}, "context must be a mapping"),
        ({"context": {"hour": [1]}}, "hour has 1 rows"),
        ({"context": {"target": [1]}}, "target has 1 rows"),
        ({"context": {"history": [1, 2]}}, "context has a column 'history'"),
        ({"context": {1: [1, 2]}}, "context has a column 1"),
        ({"context": {"v": [[1], [2]]}}, r"context\['v'\] must hold one number or string a row"),
        ({"fold": [0, 200]}, "fold holds 200, too large"),
        ({"_embedding": [1, 2]}, "user_embedding must be a matrix"),
    ],
)
def test_impressions_by_hand_are_checked(changes, message) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Impressions(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1], [0], [2]), r"row 0 begins at start=0 and has length=2, .* outside the 1 items"),
        (([1], [0], [-1]), "length=-1"),
        (([1], [-1], [1]), "start=-1"),
        (([1], [0, 0], [1]), "length has 1 entries for 2 rows"),
        (([1.5], [0], [1]), "items must hold int32 numbers"),
        (([1], [0], [1], [1, 1]), "feedback has 2 entries for 1 values"),
        (([1], [0], [1], [3]), "feedback must hold 0 and 1 only"),
    ],
)
def test_sequences_by_hand_are_checked(arguments, message) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Sequences(*arguments)
    with pytest.raises(ValueError, match="donor holds 1 at position 0"):
        Sequences([1], [0], [1], donor=[1], donors=np.array([7]))


def test_what_steps_add_is_checked() -> None:
    X = Impressions(**GOOD)
    for call, message in (
        (lambda: X.with_fold([1]), "fold has 1 rows"),
        (lambda: X.with_fold(["a", "b"]), "fold must hold int8 numbers"),
        (lambda: X.with_fold([-3, 0]), "fold must be -2 or more"),
        (lambda: X.with_user_embedding(np.zeros(2)), "user_embedding must be a matrix"),
        (lambda: X.with_user_embedding(np.zeros((3, 2))), "user_embedding has 3 rows"),
        (lambda: X.with_user_encoder(3), "encoder must be a function"),
        (lambda: X.with_borrowed([[1], [2]]), "borrowed must be Sequences"),
        (lambda: X.with_borrowed(Sequences([9], [0, 0], [1, 1])), "borrowed.items holds 9"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_selections_are_not_checked_again(monkeypatch) -> None:
    X = Impressions(**GOOD)

    def fail(*args, **kwargs):
        raise AssertionError("checked again")

    monkeypatch.setattr("skmars.data._impressions.checked", fail)
    monkeypatch.setattr("skmars.data._sequences.as_column", fail)
    assert len(X[[1]]) == len(X[[1]].history.last(1)) == 1
    assert len(replace(X, context={"hour": np.zeros(2)})) == 2


# --- columns -------------------------------------------------------------------------------------

STAMPS = [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2)]
SECONDS = [1577836800.0, 1577923200.0]


@pytest.mark.parametrize(
    "stamps",
    [
        pd.Series([STAMPS]),
        pd.Series([[pd.Timestamp(s) for s in STAMPS]]),
        pd.Series([[pd.Timestamp(s, tz="UTC").tz_convert("Asia/Tokyo") for s in STAMPS]]),
        pd.Series([[s.date() for s in STAMPS]]),
        pd.Series([[np.datetime64(s, "ns") for s in STAMPS]]),
        *(pd.Series([np.array(STAMPS, dtype=f"M8[{u}]")]) for u in ("D", "h", "s", "ms", "ns")),
        pl.Series([STAMPS]),
        pl.Series([[s.date() for s in STAMPS]]),
        pl.Series([STAMPS], dtype=pl.Array(pl.Datetime("ms"), 2)),
        pa.array([STAMPS], type=pa.list_(pa.timestamp("ns"))),
        pa.array([STAMPS], type=pa.large_list(pa.timestamp("s", "Europe/Oslo"))),
        pd.Series([STAMPS], dtype=pd.ArrowDtype(pa.list_(pa.timestamp("us")))),
        pd.Series([[Decimal(int(s)) for s in SECONDS]]),
    ],
)
def test_times_in_lists_are_read_in_seconds(stamps) -> None:
    columns = {"user_id": [1], "item_id": [1], "timestamp": [2e9]}
    rows = type(stamps)([[1, 2]]) if not isinstance(stamps, pa.Array) else pa.array([[1, 2]])
    X = Impressions.from_frame(table("history_timestamp", stamps, history=rows, **columns))
    assert X.history.time.tolist() == SECONDS


@pytest.mark.parametrize("missing", [None, pd.NaT, np.datetime64("NaT")])
def test_unknown_times_in_lists(missing) -> None:
    frame = pd.DataFrame(
        {**HISTORY, "history": [[6, 7]], "history_timestamp": [[STAMPS[0], missing]]}
    )
    assert Impressions.from_frame(frame).history.time.tolist() == [SECONDS[0], np.inf]


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        ([["2020-01-01"]], "must hold numbers or datetimes, got str"),
        ([[True]], "must hold numbers or datetimes, got bool"),
        ([[STAMPS[0], 5]], "must hold .*, got datetime and int"),
        ([[dt.timedelta(1)]], "must hold .*, got timedelta"),
        ([[dt.time(1)]], "must hold .*, got time"),
    ],
)
def test_what_is_no_time(stamps, message) -> None:
    frame = pd.DataFrame(
        {**HISTORY, "history": [[6] * len(stamps[0])], "history_timestamp": stamps}
    )
    with pytest.raises(TypeError, match=f"'history_timestamp' of X {message}"):
        Impressions.from_frame(frame)


@pytest.mark.parametrize(
    ("row", "history", "message"),
    [
        (1.6e9, [1.5e12, 1.5e12], "a factor of 1e\\+03"),
        (1.6e12, [1.5e9, 1.5e9], "a factor of 1e\\+03"),
        (1.6e9, [1.5e18, 1.5e18], "a factor of 1e\\+09"),
        (pd.Timestamp("2020"), [1.5e12, 1.5e12], "a factor"),
        (pd.Timestamp("2020"), [3.0, 4.0], "does not go with"),
        (5.0, STAMPS, "does not go with"),
        (1e9, STAMPS, "does not go with"),
    ],
)
def test_times_of_other_units_are_refused(row, history, message) -> None:
    frame = pd.DataFrame(
        {**HISTORY, "history": [[6, 7]], "timestamp": [row], "history_timestamp": [history]}
    )
    with pytest.raises(ValueError, match=rf"'history_timestamp' of X .*{message}"):
        Impressions.from_frame(frame)


def test_numbers_and_datetimes_may_go_together() -> None:
    frame = pd.DataFrame({**HISTORY, "timestamp": [2e9], "history_timestamp": [STAMPS[:1]]})
    assert Impressions.from_frame(frame).history.time.tolist() == SECONDS[:1]
    frame = pd.DataFrame({**HISTORY, "timestamp": STAMPS[1:], "history_timestamp": [[SECONDS[0]]]})
    assert Impressions.from_frame(frame).time.tolist() == SECONDS[1:]


def test_histories_that_lie_after_their_rows_are_refused() -> None:
    frame = pd.DataFrame(
        {
            "user_id": [1, 2],
            "item_id": [1, 1],
            "history": [[2], [2]],
            "timestamp": [10.0, 20.0],
            "history_timestamp": [[11.0], [21.0]],
        }
    )
    with pytest.raises(ValueError, match="what a history holds happened before its row"):
        Impressions.from_frame(frame)


def test_served_times_of_another_unit_are_refused() -> None:
    log = log_of(timestamp=[1.6e9, 1.61e9, 1.62e9])
    histories = UserHistories.of(Impressions.from_log(log)[0])
    with pytest.raises(ValueError, match="the time column of the rows holds times of about 1.7e"):
        histories.impressions(np.array([1]), np.array([5]), np.array([1.7e12]))


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (pd.Series([dt.date(2020, 1, 1), dt.date(2020, 1, 2)]), SECONDS),
        (pd.Series(STAMPS, dtype=object), SECONDS),
        (pd.Series([Decimal(3), Decimal("4.5")]), [3, 4.5]),
        (pd.Series([3, 4], dtype="Int64"), [3, 4]),
        (pl.Series([Decimal(3), Decimal(4)]), [3, 4]),
        (pd.Series(STAMPS).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"), SECONDS),
        (pl.Series(STAMPS, dtype=pl.Datetime("ns")), SECONDS),
        (pa.array([s.date() for s in STAMPS], type=pa.date64()), SECONDS),
    ],
)
def test_times_of_any_kind(values, seconds) -> None:
    X, _ = Impressions.from_log(table("timestamp", values, user_id=[1, 1], item_id=[1, 2]))
    assert X.time.tolist() == seconds


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (pd.Series([True, None], dtype="boolean"), [1.0, np.nan]),
        (pd.Series([True, None], dtype=object), [1.0, np.nan]),
        (pl.Series([True, None]), [1.0, np.nan]),
        (pa.array([True, None]), [1.0, np.nan]),
        (pd.Series([Decimal("1.5"), None]), [1.5, np.nan]),
        (pl.Series([Decimal("1.5"), None]), [1.5, np.nan]),
        (pd.Series([2**60 + 1, 2**60]), [2**60 + 1, 2**60]),
        (pl.Series([2**60 + 1, 2**60], dtype=pl.Int128), [2**60 + 1, 2**60]),
        (pd.Series([3, None], dtype="Int64"), [3.0, np.nan]),
        (pd.Series([3, 4], dtype="category"), ["3", "4"]),
        (pd.Series(["a", None], dtype="category"), ["a", ""]),
        (pl.Series(["a", None]), ["a", ""]),
        (pl.Series([None, None]), ["", ""]),
    ],
)
def test_context_of_any_kind(values, kept) -> None:
    log = table("extra", values, user_id=[1, 1], item_id=[1, 2])
    X, _ = Impressions.from_log(log, context=["extra"])
    np.testing.assert_array_equal(X.context["extra"].tolist(), kept)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.Series(pd.to_timedelta([1, 2])), r"Timedelta \(Duration"),
        (pl.Series([dt.time(1), dt.time(2)]), r"time \(Time"),
        (pd.Series([dt.time(1), dt.time(2)]), r"time \(Object"),
        (pd.Series(STAMPS), "Datetime"),
        (pl.Series([b"a", b"b"]), "holds bytes"),
        (pl.Series([{"a": 1}, {"a": 2}]), "holds dict"),
        (pl.Series([[1], [2]]), "holds list"),
        (pl.Series([[1], [2]], dtype=pl.Array(pl.Int64, 1)), "holds list"),
        (pd.Series([np.zeros(1), np.zeros(1)]), "holds ndarray"),
        (pd.Series([1, "a"], dtype=object), "holds int and str"),
        (pd.Series([1.0, np.inf]), r"infinite numbers \(first: row 1\)"),
        (pd.Series([2**60 + 1, None], dtype="Int64"), r"beyond 2\*\*53"),
        (pd.Series([2**70, 1], dtype=object), "64 bits"),
        (pd.Series([1j, 2j]), "holds complex"),
        (pd.Series(["a", "\ud800"], dtype=object), "strings that are no text"),
    ],
)
def test_context_that_is_none(values, message) -> None:
    log = table("extra", values, user_id=[1, 1], item_id=[1, 2])
    with pytest.raises((TypeError, ValueError), match=rf"column 'extra' of log .*{message}"):
        Impressions.from_log(log, context=["extra"], time=None)


@pytest.mark.parametrize("labels", [["0", "1", "1"], [0.5, 1, 1], [[0], [1], [1]], [1j, 0, 1]])
def test_labels_that_are_none(labels) -> None:
    with pytest.raises(ValueError, match=r"'clicked' of log must be binary \(0 and 1"):
        Impressions.from_log(log_of(clicked=labels), label="clicked")


def test_labels_of_other_kinds() -> None:
    for labels in ([Decimal(0), Decimal(1), Decimal(1)], pd.Categorical([0, 1, 1])):
        assert Impressions.from_log(log_of(clicked=labels), label="clicked")[1].tolist() == [
            0,
            1,
            1,
        ]


def test_names_of_columns() -> None:
    X, y = Impressions.from_log(pd.DataFrame([[1, 5, 1], [1, 6, 0]]), user=0, item=1, label=2)
    assert (X.item_ids.tolist(), y.tolist()) == ([5, 6], [1, 0])
    assert ItemCatalog.from_frame(pd.DataFrame([[1], [2]]), item=0).ids.tolist() == [1, 2]
    twice = pd.DataFrame([[1, 2, 3]], columns=["user_id", "item_id", "item_id"])
    for frame in (twice, pa.table([[1], [2], [3]], names=list(twice.columns))):
        with pytest.raises(ValueError, match="log has several columns of the name 'item_id'"):
            Impressions.from_log(frame)
    levels = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))
    with pytest.raises(TypeError, match=r"log has a column of the name \('a', 'b'\)"):
        Impressions.from_log(levels)
    with pytest.raises(TypeError, match="column 7 of X is context, whose names must be strings"):
        Impressions.from_frame(pd.DataFrame({**HISTORY, 7: [1]}))
    with pytest.raises(ValueError, match="X has several columns of the name 'history'"):
        as_impressions(
            pd.concat([pd.DataFrame(HISTORY), pd.DataFrame(HISTORY)[["history"]]], axis=1)
        )
    with pytest.raises(TypeError, match=r"X is a lazy frame; pass X.collect\(\)"):
        as_impressions(pl.LazyFrame(HISTORY))
    # A numeric table is no business of ours.
    assert as_impressions(pd.DataFrame(np.eye(2), columns=["a", "a"])) is None


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_features_of_numbers(make) -> None:
    items = make({"item_id": [1, 2], "price": [3.5, None], "size": [7, 8], "v": [[1, 2], [3, 4]]})
    catalog = ItemCatalog.from_frame(items, features={"price": "price", "all": ["size", "v"]})
    assert catalog.features["price"].tolist() == [[3.5], [0]]
    assert catalog.missing["price"].tolist() == [False, True]
    assert catalog.features["all"].tolist() == [[7, 1, 2], [8, 3, 4]]


def test_missing_titles_are_not_nan() -> None:
    catalog = ItemCatalog([1, 2], content={"title": [np.nan, "Up"]})
    assert catalog.titles == ["1", "Up"]
    assert ItemCatalog([1], content={"text": pa.array(["a"])}).content["text"].tolist() == ["a"]


@pytest.mark.parametrize("column", ["user_embedding", "user_fold"])
def test_what_steps_wrote_must_be_whole(column) -> None:
    rows = {"user_embedding": [[1.0, 2.0], None], "user_fold": [0, None]}
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "history": [[2], [1]]})
    with pytest.raises(ValueError, match=f"column '{column}' of X"):
        Impressions.from_frame(frame.assign(**{column: rows[column]}))
