"""What the stream keeps beside an event comes back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmars.serving.store._payload import decode, encode

VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
CONTEXT = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUE, max_size=4)


@given(CONTEXT, st.none() | st.integers(0, 2**63))
def test_payload_comes_back_with_values_and_kinds(context, position):
    got, at = decode(encode(context, position))
    assert at == position
    assert got == context
    assert [type(value) for value in got.values()] == [type(value) for value in context.values()]


def test_nothing_takes_no_bytes():
    assert encode({}) == b""
    assert decode(b"") == ({}, None)


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"\xff",
        b"[]",
        b'{"device":"phone"}',
        b'{"context":3}',
        b'{"position":-1}',
        b'{"position":1.5}',
        b'{"position":true}',
    ],
)
def test_other_payloads_are_refused(payload):
    with pytest.raises(ValueError, match="'context' and 'position', got b"):
        decode(payload)
