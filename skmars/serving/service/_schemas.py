"""Bodies of requests and answers, with the limits of every field.

They are decoded with these classes, and the OpenAPI document is made of them, so that what is
documented and what is accepted are the same.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from skmars.serving.service._refusal import Refusal

MAX_BODY = 2**20  # bytes
MAX_USERS = 100
MAX_CANDIDATES = 1_000  # of a user
MAX_ROWS = 10_000  # candidates of all users of a request
MAX_EVENTS = 1_000
MAX_N = 1_000

INT64 = Meta(ge=-(2**63), le=2**63 - 1)

MAX_ID_BYTES = 500

# The store counts bytes of UTF-8, see `_service.check_ids`.
Text = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)]
Id = Annotated[int, INT64] | Text
LIMIT = 1e11  # of seconds; milliseconds since 1970 lie beyond, from 1973 on
Seconds = Annotated[
    float,
    Meta(gt=-LIMIT, lt=LIMIT, description="Seconds, since 1970 unless the log counts otherwise."),
]
Value = bool | Annotated[int, INT64] | float | Annotated[str, Meta(max_length=1_000)] | None
Column = Annotated[str, Meta(min_length=1, max_length=100)]
Context = Annotated[
    dict[Column, Value],
    Meta(max_length=100, description="Values of the context columns that the model was fitted on."),
]
ContextOfCandidates = Annotated[
    dict[Column, Value | Annotated[list[Value], Meta(min_length=1, max_length=MAX_CANDIDATES)]],
    Meta(
        max_length=100,
        description="Values of the context columns that the model was fitted on: one, or one a "
        "candidate.",
    ),
]


class Body(Struct, forbid_unknown_fields=True, gc=False):
    """A body, or a part of one."""


# --- requests ---------------------------------------------------------------------------------


class UserCandidates(Body):
    """A user, and the items that might be shown to them."""

    user_id: Annotated[Id, Meta(description="Id of the user, who may be unknown.")]
    item_ids: Annotated[
        list[Id],
        Meta(
            min_length=1,
            max_length=MAX_CANDIDATES,
            description="Candidates: ids of items, which may be unknown.",
        ),
    ]
    time: Annotated[
        Seconds | None,
        Meta(description="Moment of the impressions: what came before is history. Default: now."),
    ] = None
    context: ContextOfCandidates | None = None


class ScoreRequest(Body):
    """Users with candidates. There may be at most 10,000 candidates in all."""

    users: Annotated[list[UserCandidates], Meta(min_length=1, max_length=MAX_USERS)]
    explain: Annotated[
        bool, Meta(description="Whether to tell what each user borrows, and from whom.")
    ] = False


class RecommendRequest(Body):
    """A user, for whom the best items are asked."""

    user_id: Annotated[Id, Meta(description="Id of the user, who may be unknown.")]
    n: Annotated[int, Meta(ge=1, le=MAX_N, description="Number of items.")] = 10
    item_ids: Annotated[
        Annotated[list[Id], Meta(min_length=1, max_length=MAX_ROWS)] | None,
        Meta(description="Ids of the items to choose from. Default: all of the catalogue."),
    ] = None
    include_seen: Annotated[
        bool, Meta(description="Whether to recommend also what is in the user's history.")
    ] = False
    time: Seconds | None = None
    context: Context | None = None


class Event(Body):
    """A user did something with an item."""

    user_id: Id
    item_id: Id
    clicked: Annotated[bool, Meta(description="Whether the user clicked (liked) the item.")]
    time: Annotated[Seconds | None, Meta(description="Required where the model knows times.")] = (
        None
    )
    id: Annotated[
        Text | None,
        Meta(
            description="An event whose id its user already has is left out, so that sending again "
            "is safe. Default: made of user, item, time and click."
        ),
    ] = None
    context: Context | None = None
    position: Annotated[
        Annotated[int, Meta(ge=0, le=2**63 - 1)] | None,
        Meta(
            description="Position of the answer that the user was shown: what was known up to it "
            "is what this event is learnt with. Default: all that came before the event."
        ),
    ] = None


class EventsRequest(Body):
    """Events, in the order in which they happened."""

    events: Annotated[list[Event], Meta(min_length=1, max_length=MAX_EVENTS)]


# --- answers ----------------------------------------------------------------------------------

History = Annotated[
    Literal["current", "stale", "missing"],
    Meta(
        description="current: with all events up to `position`. stale: the store was late, and "
        "what was last known of the user was used. missing: the store was late, and nothing was "
        "known.",
    ),
]
Position = Annotated[
    int | None,
    Meta(
        description="Position in the stream of events up to which the history is complete; null "
        "where it is missing."
    ),
]
Versions = Annotated[
    dict[str, str],
    Meta(
        description='What the answer was made with: `params` ("." is the model as it was saved) '
        'and `pool` ("fit" is that of its fit), or folders below that of the model.'
    ),
]


class Answer(Struct):
    """A body of an answer, or a part of one."""


class UserScores(Answer, omit_defaults=True):
    """Probabilities of clicks of a user."""

    user_id: Id
    probabilities: Annotated[list[float], Meta(description="In the order of the candidates.")]
    history: History
    position: Position
    explanation: dict[str, Any] | None = None


class ScoreAnswer(Answer):
    """Probabilities of clicks, user by user in the order of the request."""

    users: list[UserScores]
    versions: Versions


class Recommendation(Answer):
    """An item, and the probability that the user clicks it."""

    item_id: Id
    title: str
    probability: float


class RecommendAnswer(Answer):
    """The best items of a user, best first."""

    user_id: Id
    items: list[Recommendation]
    history: History
    position: Position
    versions: Versions


class EventsAnswer(Answer):
    """The events are kept durably, and the next score sees them."""

    position: Annotated[int, Meta(description="In the stream; no event of these lies beyond it.")]
    new: Annotated[int, Meta(description="How many of the events were not there before.")]


class Health(Answer, omit_defaults=True):
    """Whether the process lives, or can answer."""

    status: str
    versions: Versions | None = None


class Error(Answer):
    """Why a request was refused."""

    code: Annotated[str, Meta(description="Name of the reason, for programs.")]
    message: Annotated[str, Meta(description="What was found, and what to do.")]
    field: Annotated[str | None, Meta(description="Place in the body, if it is one.")] = None


class ErrorAnswer(Answer):
    """A request that was refused."""

    error: Error


BODIES = (
    ScoreRequest,
    RecommendRequest,
    EventsRequest,
    ScoreAnswer,
    RecommendAnswer,
    EventsAnswer,
    Health,
    ErrorAnswer,
)
REF = "#/components/schemas/{name}"


def components() -> dict[str, Any]:
    """Return the schemas of all bodies, for the OpenAPI document."""
    return msgspec.json.schema_components(BODIES, ref_template=REF)[1]


# --- decoding ---------------------------------------------------------------------------------

B = TypeVar("B", bound=Body)
encode = msgspec.json.Encoder().encode


@cache
def _decoder(kind: type[B]) -> msgspec.json.Decoder[B]:
    return msgspec.json.Decoder(kind)


def decode(body: bytes | bytearray, kind: type[B]) -> B:
    """Return what a body holds.

    Raises
    ------
    Refusal
        With status 400 if it is no JSON, and 422 if it does not follow the schema.
    """
    try:
        return _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        found, _, place = str(error).partition(" - at `$")
        field = place.rstrip("`").removeprefix(".") or None
        raise Refusal(422, "invalid", f"{found}. The schema of the body is at /docs.", field) from (
            error
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(400, "no_json", f"The body is no JSON: {message}.") from error
