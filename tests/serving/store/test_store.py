"""What every store promises, tested against a plain Python model of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from skmars.serving import (
    EVENT,
    Events,
    LeaseHeld,
    StaleLease,
    StoreError,
    StreamTrimmed,
    open_store,
)

NUMBERS = [0, 1, -1, 2, 300, -(2**63), 2**63 - 1]
WORDS = ["a", "b", "ann", "ä", "Ω≈ç√", "日本", "🙂", "a\0b", "1", "i", "x" * 500, "ß" * 250]
TIMES = [0.0, -0.0, 1.0, 1.5, -2.0, 1e9, 1.7e9 + 1e-6, math.nan]
NAMES = ["pool", "params", "ä"]


def events(rows: list[tuple[Any, ...]], ids: Any = None, payload: Any = None) -> Events:
    """Events of (user, item, time, clicked)."""
    users, items, time, clicked = zip(*rows) if rows else ((), (), (), ())
    return Events(
        list(users), list(items), np.array(time, float), np.array(clicked, np.uint8), ids, payload
    )


class Model:
    """The contract, in plain Python: no bytes, no hashes, no transactions."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self.seen: set[Any] = set()
        self.items: list[Any] = []
        self.trimmed = 0

    def append(self, given: Events, streamed: bool) -> None:
        for at in range(len(given)):
            user, item = given.user_ids[at], given.item_ids[at]
            time, clicked = float(given.time[at]), int(given.clicked[at])
            moment = None if math.isnan(time) else time
            made = (user, item, moment, clicked) if given.ids is None else (user, given.ids[at])
            if made in self.seen:
                continue
            self.seen.add(made)
            if item not in self.items:
                self.items.append(item)
            payload = b"" if given.payload is None else given.payload[at]
            self.kept.append(
                {
                    **{"user": user, "item": item, "time": moment, "clicked": clicked},
                    **{"streamed": streamed, "payload": payload, "position": len(self.kept) + 1},
                }
            )

    def history(self, user: Any) -> list[tuple[Any, ...]]:
        return [
            (e["position"], e["time"], self.items.index(e["item"]), e["clicked"], e["streamed"])
            for e in self.kept
            if e["user"] == user
        ]

    def touched(self, since: int) -> list[Any]:
        last = {e["user"]: e["position"] for e in self.kept}
        return sorted((u for u in last if last[u] > since), key=last.__getitem__)


def plain(history: Any) -> list[tuple[Any, ...]]:
    assert history.dtype == EVENT
    return [
        (
            int(e["position"]),
            None if np.isnan(e["time"]) else float(e["time"]),
            *(int(e["item"]), int(e["clicked"]), bool(e["streamed"])),
        )
        for e in history
    ]


class StoreMachine(RuleBasedStateMachine):
    """Everything that can be done with a store, in any order, against the model."""

    make: Callable[..., Any]

    @initialize(user=st.sampled_from([NUMBERS, WORDS]), item=st.sampled_from([NUMBERS, WORDS]))
    def begin(self, user: list[Any], item: list[Any]) -> None:
        self.now = 1000.0
        self.store = type(self).make(clock=lambda: self.now)
        self.model = Model()
        self.user_ids, self.all_items = user, item
        self.pointers: dict[str, str] = {}
        self.leases: list[Any] = []
        self.holder: dict[str, tuple[str, float]] = {}
        self.token: dict[str, int] = {}
        self.moments: list[tuple[int, dict[Any, Any]]] = []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    @rule(data=st.data(), streamed=st.booleans(), given=st.booleans(), loaded=st.booleans())
    def append(self, data: Any, streamed: bool, given: bool, loaded: bool) -> None:
        row = st.tuples(
            *map(st.sampled_from, (self.user_ids, self.all_items, TIMES)), st.integers(0, 1)
        )
        rows = data.draw(st.lists(row, max_size=12))
        ids = [data.draw(st.sampled_from(WORDS)) for _ in rows] if given else None
        payload = [data.draw(st.binary(max_size=20)) for _ in rows] if loaded else None
        batch = events(rows, ids, payload)
        before = len(self.model.kept)
        self.model.append(batch, streamed)
        kept = len(self.model.kept)
        assert self.store.append_counted(batch, streamed=streamed) == (kept, kept - before)

    @rule(data=st.data())
    def histories(self, data: Any) -> None:
        users = data.draw(st.lists(st.sampled_from(self.user_ids), max_size=5))
        found, position = self.store.histories(users)
        assert position == len(self.model.kept)
        assert list(map(plain, found)) == list(map(self.model.history, users))

    @rule()
    def remember(self) -> None:
        self.moments.append(
            (self.store.position, {u: self.model.history(u) for u in self.user_ids})
        )

    @precondition(lambda self: self.moments)
    @rule(data=st.data())
    def as_of_an_earlier_position(self, data: Any) -> None:
        position, past = data.draw(st.sampled_from(self.moments))
        found, _ = self.store.histories(self.user_ids)
        for user, history in zip(self.user_ids, found):
            assert plain(history[history["position"] <= position]) == past[user]

    @rule(since=st.integers(0, 60), limit=st.integers(0, 30))
    def stream(self, since: int, limit: int) -> None:
        if since > len(self.model.kept):
            with pytest.raises(StoreError, match=f"ends with position {len(self.model.kept)}"):
                self.store.stream(since, limit)
            return
        if since + 1 < self.model.trimmed:
            with pytest.raises(StreamTrimmed, match=f"since {self.model.trimmed - 1}"):
                self.store.stream(since, limit)
            return
        due = [e for e in self.model.kept if e["streamed"] and e["position"] > since][:limit]
        found = self.store.stream(since, limit)
        fields = ("position", "user_id", "item_id", "clicked", "payload")
        assert [tuple(getattr(s, name) for name in fields) for s in found] == [
            tuple(e[name] for name in ("position", "user", "item", "clicked", "payload"))
            for e in due
        ]
        for s, e in zip(found, due):
            assert e["time"] == s.time or (e["time"] is None and math.isnan(s.time))
            (history,), _ = self.store.histories([s.user_id])
            assert s.id in history["id"]

    @rule(before=st.integers(0, 60))
    def trim(self, before: int) -> None:
        self.store.trim(before)
        self.model.trimmed = max(self.model.trimmed, min(before, len(self.model.kept) + 1))

    @rule(since=st.integers(0, 60))
    def touched(self, since: int) -> None:
        if since > len(self.model.kept):
            with pytest.raises(StoreError, match="leave events out"):
                self.store.touched(since)
            return
        assert self.store.touched(since) == self.model.touched(since)

    @rule(since=st.integers(0, 15))
    def item_ids(self, since: int) -> None:
        assert self.store.item_ids(since) == self.model.items[since:]

    @invariant()
    def users(self) -> None:
        if not hasattr(self, "store"):
            return
        found = [pair for block in self.store.users() for pair in zip(*block)]
        assert [user for user, _ in found] == sorted({e["user"] for e in self.model.kept})
        assert all(plain(history) == self.model.history(user) for user, history in found)
        for name in NAMES:
            assert self.store.pointer(name) == self.pointers.get(name)

    @rule(name=st.sampled_from(NAMES), value=st.text(st.characters(codec="utf-8"), max_size=5))
    def publish(self, name: str, value: str) -> None:
        self.store.publish(name, value)
        self.pointers[name] = value

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        name=st.sampled_from(NAMES),
        holder=st.sampled_from(["me", "you"]),
        seconds=st.floats(1, 100),
    )
    def acquire(self, name: str, holder: str, seconds: float) -> None:
        other, until = self.holder.get(name, ("", 0.0))
        if other not in ("", holder) and self.now < until:
            with pytest.raises(LeaseHeld, match=f"held by '{other}' until 1970"):
                self.store.acquire(name, holder, seconds)
            return
        lease = self.store.acquire(name, holder, seconds)
        assert lease.token > self.token.get(name, 0)
        assert (lease.name, lease.holder) == (name, holder)
        assert lease.until == pytest.approx(self.now + seconds)
        self.token[name], self.holder[name] = lease.token, (holder, lease.until)
        self.leases.append(lease)

    def valid(self, lease: Any) -> bool:
        return lease.token == self.token[lease.name] and self.holder[lease.name][0] != ""

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), value=st.sampled_from(["1", "2"]))
    def publish_with_lease(self, data: Any, value: str) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        if self.valid(lease):
            self.store.publish("pool", value, lease)
            self.pointers["pool"] = value
        else:
            with pytest.raises(StaleLease, match=f"token {lease.token}"):
                self.store.publish("pool", value, lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        if self.valid(lease):
            self.holder[lease.name] = ("", 0.0)
        self.store.release(lease)


def test_a_store_does_what_its_model_does(new_store: Callable[..., Any]) -> None:
    class Machine(StoreMachine):
        make = staticmethod(new_store)

    limits = settings(max_examples=25, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(Machine, settings=limits)


# Events


def test_a_repeated_event_counts_once_however_old(store: Any) -> None:
    old = events([("ann", 1, 5.0, 1)], ids=["click-1"])
    store.append(old)
    store.append(events([("ann", 2, float(t), 1) for t in range(3000)]), streamed=False)
    position = store.position
    # Another item or time doesn't make another event of it; another user does.
    again = events([("ann", 9, 7.0, 0), ("bob", 9, 7.0, 0)], ids=["click-1"] * 2)
    assert store.append(again) == position + 1
    assert store.append(again) == position + 1
    assert store.item_ids() == [1, 2, 9]
    (ann, bob), _ = store.histories(["ann", "bob"])
    assert (len(ann), len(bob)) == (3001, 1)


def test_the_hash_is_looked_for_at_the_places_of_hashes(store: Any) -> None:
    # The bytes of one event's hash are another event's time, and time and item, and so on.
    store.append(events([("ann", 1, 1.0, 1)], ids=["a"]))
    (history,), _ = store.histories(["ann"])
    clash = history["id"].view("<f8").item()
    assert math.isfinite(clash)
    store.append(events([("bob", 1, clash, 1)], ids=["b"]))
    assert store.append(events([("bob", 1, 1.0, 1)], ids=["a"])) == 3


def test_many_repeated_events_of_a_long_history(store: Any) -> None:
    rows = [("ann", t % 50, float(t), t % 2) for t in range(25_000)]
    assert store.append(events(rows), streamed=False) == 25_000
    rows[::100] = [("ann", 7, -float(t + 1), 1) for t in range(250)]
    assert store.append(events(rows), streamed=False) == 25_250
    (history,), position = store.histories(["ann"])
    assert position == 25_250
    assert history["position"].tolist() == list(range(1, 25_251))


def test_positions_of_loaded_and_streamed_events_are_one_sequence(store: Any) -> None:
    store.append(events([("a", 1, 1.0, 1), ("b", 1, 1.0, 1)]), streamed=False)
    store.append(events([("a", 2, 2.0, 1)]))
    store.append(events([("c", 2, 2.0, 1)]), streamed=False)
    assert [s.position for s in store.stream(0, 10)] == [3]
    assert store.touched(0) == ["b", "a", "c"]
    assert store.touched(3) == ["c"]


def test_equal_times_are_equal_however_they_are_written(store: Any) -> None:
    odd = np.array([0x7FF8000000000001], dtype="<u8").view("<f8")[0]
    for time in (0.0, -0.0, math.nan, -math.nan, odd):
        store.append(events([("ann", 1, time, 1)]))
    (history,), position = store.histories(["ann"])
    assert position == 2
    assert plain(history) == [(1, 0.0, 0, 1, True), (2, None, 0, 1, True)]


def test_the_stream_is_trimmed_up_to_a_position_and_for_good(store: Any) -> None:
    store.append(events([("ann", 1, float(t), 1) for t in range(5)]))
    store.trim(4)
    store.trim(2)  # changes nothing any more
    with pytest.raises(StreamTrimmed, match="begins with position 4.*the stream since 3"):
        store.stream(2, 10)
    assert [s.position for s in store.stream(3, 10)] == [4, 5]
    store.trim(100)  # what is yet to come stays
    store.append(events([("ann", 1, 9.0, 1)]))
    assert [s.position for s in store.stream(5, 10)] == [6]
    assert len(store.histories(["ann"])[0][0]) == 6
    assert store.touched(0) == ["ann"]


def test_a_reader_that_is_ahead_of_the_store_is_told(store: Any) -> None:
    store.append(events([("ann", 1, 1.0, 1)]))
    assert (store.stream(1, 10), store.touched(1)) == ([], [])
    for ask in (lambda: store.stream(2, 10), lambda: store.touched(2)):
        with pytest.raises(StoreError, match="ends with position 1.*older copy"):
            ask()


def test_histories_are_read_only(store: Any) -> None:
    store.append(events([("a", 1, 1.0, 1)]))
    for history in store.histories(["a", "b"])[0]:
        assert not history.flags.writeable


def test_arrays_of_ids_are_ids(store: Any) -> None:
    rows = Events(np.array([3, 4]), np.array(["x", "y"]), np.arange(2), np.array([True, False]))
    assert store.append(rows) == 2
    assert store.item_ids() == ["x", "y"]
    found, _ = store.histories(np.array([4, 3], dtype=np.uint8))
    assert [len(history) for history in found] == [1, 1]
    assert [s.user_id for s in store.stream(0, 9)] == [3, 4]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"user_ids": [1, 2]}, TypeError, "user_ids holds integers, but the store keeps strings"),
        ({"item_ids": ["1", "2"]}, TypeError, "item_ids holds strings, but the store keeps int"),
        ({"user_ids": ["a", 1]}, TypeError, "user_ids must be all integers or all strings"),
        ({"user_ids": ["a", None]}, ValueError, "user_ids holds 1 missing ids"),
        ({"user_ids": ["a", ""]}, ValueError, "user_ids holds an empty string"),
        ({"user_ids": ["a", "b\ud800"]}, ValueError, "user_ids holds strings that are no text"),
        ({"user_ids": ["a", "x" * 501]}, ValueError, "user_ids holds a string of 501 bytes"),
        ({"item_ids": [1, 2**63]}, ValueError, "item_ids holds 9223372036854775808"),
        ({"item_ids": [1]}, ValueError, "item_ids has 1 values and user_ids 2"),
        ({"time": np.zeros(3)}, ValueError, "time has 3 values"),
        ({"time": np.array([0, np.inf])}, ValueError, "time holds an infinite value"),
        ({"time": np.array(["1", "2"])}, TypeError, "time must be .* got shape .* dtype <U1"),
        ({"clicked": np.array([0, 2])}, ValueError, "clicked must be .* 0 and 1"),
        ({"clicked": np.array([0, np.nan])}, ValueError, "clicked must be .* 0 and 1"),
        ({"ids": ["a"]}, ValueError, "ids has 1 values"),
        ({"ids": ["a", 3]}, TypeError, "ids must be str, got a int"),
        ({"ids": ["a", ""]}, ValueError, "ids holds an empty string"),
        ({"payload": ["a", "b"]}, TypeError, "payload must be bytes, got a str"),
    ],
)
def test_bad_events_are_refused_and_nothing_of_them_is_kept(
    store: Any, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    store.append(events([("ann", 1, 1.0, 1)]))
    columns = {"user_ids": ["ann", "bob"], "item_ids": [2, 3]}
    columns |= {"time": np.array([2.0, 3.0]), "clicked": np.array([1, 0])}
    with pytest.raises(error, match=message):
        store.append(Events(**(columns | change)))
    assert store.position == 1
    assert store.item_ids() == [1]
    assert store.append(Events(**columns)) == 3


def test_bad_questions_are_refused(store: Any) -> None:
    store.append(events([("ann", 1, 1.0, 1)]))
    with pytest.raises(TypeError, match="user_ids holds integers, but the store keeps strings"):
        store.histories([1])
    for ask in (lambda: store.stream(-1, 3), lambda: store.touched(-1), lambda: store.trim(-1)):
        with pytest.raises(ValueError, match="must be 0 or a larger integer"):
            ask()
    with pytest.raises(ValueError, match="seconds must be a positive number"):
        store.acquire("a", "me", 0)
    with pytest.raises(ValueError, match="holder is empty"):
        store.acquire("a", "", 1)
    with pytest.raises(ValueError, match="name must have 1 to 400 bytes"):
        store.pointer("")


def test_a_store_that_is_full_of_items_refuses_more(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys.modules[type(store).__module__], "MAX_ITEMS", 2)
    store.append(events([("a", 1, 1.0, 1), ("a", 2, 1.0, 1)]))
    with pytest.raises(StoreError, match="holds 2 items, and no more"):
        store.append(events([("a", 3, 1.0, 1)]))
    assert (store.position, store.item_ids()) == (2, [1, 2])


def test_threads_append_each_event_once_and_see_their_own(store: Any) -> None:
    errors = []

    def work(thread: int) -> None:
        try:
            for step in range(20):
                mine = (thread, step % 7, float(step), 1)
                shared = (99, step, float(step), 1)
                position = store.append(events([mine, shared]))
                (own, _), seen = store.histories([thread, 99])
                assert len(own) == step + 1
                assert seen >= position
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.position == 8 * 20 + 20
    found = [h for _, histories in store.users() for h in histories]
    positions = np.concatenate([history["position"] for history in found])
    assert sorted(positions.tolist()) == list(range(1, 181))
    assert [s.position for s in store.stream(0, 1000)] == list(range(1, 181))


def test_a_history_is_of_one_moment(store: Any) -> None:
    # Every batch has one event of each of two users, so that no answer may tell them apart.
    stop = threading.Event()

    def write() -> None:
        step = 0
        while not stop.is_set():
            store.append(events([("a", 1, float(step), 1), ("b", 1, float(step), 1)]))
            step += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(100):
            (a, b), position = store.histories(["a", "b"])
            assert len(a) == len(b)
            assert position == len(a) + len(b)
    finally:
        stop.set()
        thread.join()


# Leases


def test_only_one_of_many_gets_a_lease(store: Any) -> None:
    got, refused = [], []

    def ask(holder: str) -> None:
        try:
            got.append(store.acquire("runner", holder, 60))
        except LeaseHeld as error:
            refused.append(str(error))

    threads = [threading.Thread(target=ask, args=(f"host-{t}",)) for t in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 9)
    assert all(f"held by '{got[0].holder}' until 2" in message for message in refused)


def test_a_lease_that_ran_out_may_publish_until_somebody_takes_it(
    new_store: Callable[..., Any],
) -> None:
    now = [1000.0]
    store = new_store(clock=lambda: now[0])
    mine = store.acquire("runner", "me", 10)
    now[0] = 2000
    store.publish("pool", "pools/1", mine)
    store.acquire("runner", "you", 10)
    with pytest.raises(StaleLease, match="'you' has taken it since"):
        store.publish("pool", "pools/2", mine)
    store.release(mine)  # not mine any longer: changes nothing
    with pytest.raises(LeaseHeld, match="'you'"):
        store.acquire("runner", "me", 10)
    assert store.pointer("pool") == "pools/1"


def test_a_clock_that_is_set_back_neither_ends_a_lease_nor_keeps_it_for_ever(
    new_store: Callable[..., Any],
) -> None:
    now = [1e9]
    store = new_store(clock=lambda: now[0])
    store.acquire("runner", "me", 60)
    now[0] = 1000.0
    with pytest.raises(LeaseHeld):
        store.acquire("runner", "you", 60)
    now[0] = 1059.0
    with pytest.raises(LeaseHeld):
        store.acquire("runner", "you", 60)
    now[0] = 1061.0
    assert store.acquire("runner", "you", 60).token == 2


def test_a_closed_store_says_so(store: Any) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.position  # noqa: B018
    with pytest.raises(StoreError, match="is closed"):
        store.append(events([("a", 1, 1.0, 1)]))


@pytest.mark.parametrize(
    "url",
    [
        *("", "lmdb", "lmdb:", "file:x", "x.db", "mysql://host/1", "lmdb://host/path"),
        *("lmdb:x?a=1", "lmdb:x?max_bytes=1", "lmdb:x?max_bytes=much", "redis", "redis:x"),
        *("redis://h/0?durable=maybe", "redis://h/0?socket_timeout=long"),
        *("redis://h/0?colour=red", "redis://h:port/0", "redis://h/name"),
    ],
)
def test_what_names_no_store_is_refused(url: str) -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    with pytest.raises(ValueError, match="url|max_bytes|durable"):
        open_store(url)


def test_the_ways_to_name_a_store_are_listed() -> None:
    with pytest.raises(ValueError, match=r"lmdb:PATH .*redis://HOST:PORT/DATABASE .*rediss://"):
        open_store("postgres://host/0")
    with pytest.raises(TypeError, match="url must be a string"):
        open_store(None)  # type: ignore[arg-type]
