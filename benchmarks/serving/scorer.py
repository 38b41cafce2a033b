"""What does a scorer cost over the bare pipeline?

    python -m benchmarks.serving.scorer --donors 10000 --items 2000 --cache /tmp/worlds
    python -m benchmarks.serving.scorer --donors 2000 --items 100000 --cache /tmp/worlds

Users have 22 events in an LMDB store, and 100 candidates. Printed are CPU milliseconds a request,
one thread, warm, medians over `--repeats` requests of other users: all that `Scorer.score` does,
`predict_proba` of the same rows alone, and the difference. Kinds of requests:

known        one request, all items known
time         with a time in the middle of the history
unknown      one candidate is an item that nobody knows
history      an item of the history is one that the model does not know
batch        16 requests together
"""

from __future__ import annotations

import argparse
import time
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline

from benchmarks.serving.world import UNKNOWN_ITEM, World, world
from skmars.persistence import Columns, Model
from skmars.serving import Events, Request, Scorer, Snapshot, open_store

KINDS = ("known", "time", "unknown", "history", "batch")
N_WARM = 5


class Timed(Pipeline):
    """A pipeline that tells how long it predicts."""

    seconds = 0.0

    def predict_proba(self, X: Any) -> Any:
        began = time.process_time()
        found = super().predict_proba(X)
        Timed.seconds = time.process_time() - began
        return found


def requests(made: World, kind: str, seed: int) -> list[Request]:
    """Draw a request of a kind, or several of them."""
    n = 16 if kind == "batch" else 1
    users, items = made.request(n, unknown=kind == "unknown", seed=seed)
    found = []
    for user, candidates in zip(users.reshape(n, -1)[:, 0], items.reshape(n, -1)):
        moment = None
        if kind == "time":
            events = made.histories.events
            at = np.searchsorted(made.histories.users, user)
            assert events.time is not None
            moment = float(events.time[events.start[at] + events.length[at] // 2])
        found.append(Request(int(user), candidates.tolist(), moment))
    return found


def events_of(made: World, asked: list[Request], kind: str) -> Events:
    """Return what the users of requests have done."""
    histories = made.histories
    at = np.unique(np.searchsorted(histories.users, [request.user_id for request in asked]))
    events = histories.events[at]
    places, owner = events.positions(), np.repeat(at, events.length)
    items = made.catalog.ids[events.items[places]].tolist()
    if kind == "history":
        items[0] = UNKNOWN_ITEM + int(at[0])
    assert events.time is not None
    return Events(
        histories.users[owner].tolist(), items, events.time[places], np.ones(len(items), np.uint8)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--donors", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--cache", help="folder to keep worlds in")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = world(options.donors, options.items, cache=options.cache)
    model = Model(Timed(made.pipeline.steps), Columns(), made.histories, "none")
    snapshot = Snapshot.of(model)
    print(f"{options.donors} donors, {options.items} items; CPU ms a request")
    print(f"{'kind':10}{'score':>8}{'predict':>9}{'more':>8}{'  quartiles of more':>20}")
    for kind in KINDS:
        with TemporaryDirectory() as folder:
            store = open_store(f"lmdb:{folder}")
            drawn = [requests(made, kind, seed) for seed in range(options.repeats + N_WARM)]
            for asked in drawn:
                store.append(events_of(made, asked, kind), streamed=False)
            scorer = Scorer(store)
            scorer.prepare(snapshot)
            score, predict = [], []
            for asked in drawn:
                began = time.process_time()
                scorer.score(snapshot, asked)
                score.append(1e3 * (time.process_time() - began) / len(asked))
                predict.append(1e3 * Timed.seconds / len(asked))
            store.close()
        whole, bare = np.array(score[N_WARM:]), np.array(predict[N_WARM:])
        low, middle, high = np.quantile(whole - bare, [0.25, 0.5, 0.75])
        print(
            f"{kind:10}{np.median(whole):8.2f}{np.median(bare):9.2f}{middle:8.2f}"
            f"{low:12.2f} {high:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
