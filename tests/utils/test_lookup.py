"""A lookup that grows finds what one of all ids finds, and sorts again what is new alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars.utils._ids import Lookup

LARGE = 2**63


@given(
    st.lists(st.integers(0, 40), unique=True, max_size=40),
    st.lists(st.integers(0, 12), max_size=12),
    st.sampled_from(["integers", "large integers", "strings"]),
)
def test_an_extended_lookup_finds_what_a_lookup_of_all_ids_finds(
    numbers: list[int], sizes: list[int], kind: str
) -> None:
    ids = np.array(numbers, dtype=np.int64)
    asked = np.arange(45)
    if kind == "strings":
        ids, asked = ids.astype(str).astype(object), asked.astype(str).astype(object)
    pieces = np.split(ids, np.minimum(np.cumsum(sizes), len(ids)))
    if kind == "large integers":  # of some parts only
        pieces[1::2] = [piece.astype(np.uint64) + np.uint64(LARGE) for piece in pieces[1::2]]
        asked = np.append(asked.astype(np.uint64), asked.astype(np.uint64) + np.uint64(LARGE))
    lookup = Lookup(pieces[0], "fit")
    for piece in pieces[1:]:
        lookup = lookup.extended(piece)
    code = {
        int(i) if kind != "strings" else i: k
        for k, i in enumerate(i for piece in pieces for i in piece.tolist())
    }
    expected = [code.get(i, -1) for i in asked.tolist()]
    assert len(lookup) == len(lookup.ids) == len(code)
    assert lookup.ids.tolist() == list(code)
    assert lookup.take(np.arange(len(code))[::-1]).tolist() == list(code)[::-1]
    for each in (lookup, pickle.loads(pickle.dumps(lookup))):
        assert each(asked, "X").tolist() == expected
    sizes = [len(part) for part in lookup.parts]
    assert all(one >= 2 * other for one, other in zip(sizes, sizes[1:]))


def test_extending_keeps_the_large_part() -> None:
    lookup = Lookup(np.arange(1000), "fit")
    larger = lookup.extended(np.arange(1000, 1010)).extended(np.arange(1010, 1012))
    assert larger.parts[0] is lookup
    assert "ids" not in vars(larger)
    assert larger.extended(np.arange(0)) is larger
    assert lookup(np.array([1005]), "X").tolist() == [-1]


def test_ids_that_no_integer_type_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="can't hold"):
        Lookup(np.array([-1, 4]), "fit").extended(np.array([LARGE], dtype=np.uint64))
