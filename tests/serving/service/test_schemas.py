"""What is documented is what is accepted."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("msgspec")

from skmars.serving.service import _schemas as schemas
from skmars.serving.service._refusal import Refusal

DOCUMENTED = schemas.components()
REQUESTS = [schemas.ScoreRequest, schemas.RecommendRequest, schemas.EventsRequest]


def resolve(schema):
    if "$ref" in schema:
        return DOCUMENTED[schema["$ref"].rpartition("/")[2]]
    return schema


def values(schema):
    """Draw values that a documented schema allows, by the words of JSON schema alone."""
    schema = resolve(schema)
    if "anyOf" in schema:
        return st.one_of([values(s) for s in schema["anyOf"]])
    match schema["type"]:
        case "object" if "properties" in schema:
            required = schema.get("required", [])
            made = {name: values(s) for name, s in schema["properties"].items()}
            return st.fixed_dictionaries(
                {name: made[name] for name in required},
                optional={name: s for name, s in made.items() if name not in required},
            )
        case "object":
            keys = values({"type": "string", **schema.get("propertyNames", {})})
            return st.dictionaries(keys, values(schema["additionalProperties"]), max_size=3)
        case "array":
            least = schema.get("minItems", 0)
            most = min(schema["maxItems"], 3)
            return st.lists(values(schema["items"]), min_size=least, max_size=most)
        case "string":
            least, most = schema.get("minLength", 0), min(schema["maxLength"], 5)
            return st.text(st.characters(codec="utf-8"), min_size=least, max_size=most)
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "number":
            low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
            return st.floats(
                low,
                high,
                exclude_min=low is not None,
                exclude_max=high is not None,
                allow_nan=False,
                allow_infinity=False,
            )
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    raise AssertionError(schema)


@pytest.mark.parametrize("kind", REQUESTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_documented_is_accepted(kind, data):
    body = data.draw(values(DOCUMENTED[kind.__name__]))
    decoded = schemas.decode(json.dumps(body).encode(), kind)
    assert {name: getattr(decoded, name) for name in body if not isinstance(body[name], list)} == {
        name: value for name, value in body.items() if not isinstance(value, list)
    }


def limits(schema, path=()):
    """Yield each limit that is documented: where, and a value just beyond it."""
    schema = resolve(schema)
    for option in schema.get("anyOf", []):
        if len(schema["anyOf"]) == 2 and {"type": "null"} in schema["anyOf"]:
            yield from limits(option, path)
    for name, inner in schema.get("properties", {}).items():
        yield from limits(inner, (*path, name))
    if "properties" in schema:
        yield (*path, "foreign"), 1
        for name in schema.get("required", []):
            yield (*path, name), None
    if "items" in schema:
        yield from limits(schema["items"], (*path, 0))
    if "maxItems" in schema:
        yield path, ("longer", schema["maxItems"] + 1)
    if schema.get("minItems"):
        yield path, []
    if "exclusiveMaximum" in schema:
        yield path, schema["exclusiveMaximum"]
        yield path, schema["exclusiveMinimum"]
    if schema.get("type") == "integer":
        yield path, schema["maximum"] + 1
        yield path, schema["minimum"] - 1
    if "maxProperties" in schema:
        yield path, {f"column {i}": 1 for i in range(schema["maxProperties"] + 1)}
    if schema.get("type") == "boolean":
        yield path, "true"


COMPLETE = {
    schemas.ScoreRequest: {
        "users": [{"user_id": 1, "item_ids": [1], "time": 1.0, "context": {"a": 1}}],
        "explain": False,
    },
    schemas.RecommendRequest: {
        "user_id": "a",
        "n": 3,
        "item_ids": ["b"],
        "include_seen": True,
        "time": None,
        "context": {"a": "b"},
    },
    schemas.EventsRequest: {
        "events": [
            {"user_id": 1, "item_id": 2, "clicked": True, "time": 3.0, "id": "x", "context": {}}
        ]
    },
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_what_lies_beyond_a_documented_limit_is_refused(kind):
    found = list(limits(DOCUMENTED[kind.__name__]))
    assert len(found) > 8
    for path, value in found:
        body = json.loads(json.dumps(COMPLETE[kind]))
        schemas.decode(json.dumps(body).encode(), kind)
        place = body
        for step in path[:-1]:
            place = place[step]
        longer = isinstance(value, tuple)
        place[path[-1]] = place[path[-1]][:1] * value[1] if longer else value
        with pytest.raises(Refusal) as refused:
            schemas.decode(json.dumps(body).encode(), kind)
        assert refused.value.status == 422, (path, value)
        if path[-1] != "foreign":
            assert str(path[0]) in refused.value.field


@pytest.mark.parametrize("text", ["a" * 501, "", "\N{GRINNING FACE}" * 501])
def test_ids_have_limits(text):
    body = json.dumps({"user_id": text, "n": 1}).encode()
    with pytest.raises(Refusal) as refused:
        schemas.decode(body, schemas.RecommendRequest)
    assert (refused.value.status, refused.value.field) == (422, "user_id")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"user_id": NaN}',
        b'{"user_id": "\\ud800"}',
        b'{"user_id": "\xff"}',
        b"{} {}",
        b'{"user_id": 1, "time": Infinity}',
        b"[" * 100_000,
        b'{"context": ' * 50_000,
    ],
)
def test_what_is_no_json_is_refused(body):
    with pytest.raises(Refusal) as refused:
        schemas.decode(body, schemas.RecommendRequest)
    assert refused.value.status in (400, 422)


@pytest.mark.parametrize(
    "time", [b"1e999", b"-1e999", b"1" * 400, b"1" * 5000, b"1.7e12", b'"now"', b"true", b"[1]"]
)
def test_times_are_finite_seconds(time):
    with pytest.raises(Refusal) as refused:
        schemas.decode(b'{"user_id": 1, "time": ' + time + b"}", schemas.RecommendRequest)
    assert (refused.value.status, refused.value.field) == (422, "time")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_probabilities_keep_every_bit(p):
    scores = schemas.UserScores(1, [p], "current", 3)
    (back,) = json.loads(schemas.encode(scores))["probabilities"]
    assert back == p
    assert math.copysign(1, back) == math.copysign(1, p)
