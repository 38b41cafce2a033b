"""A process that appends events until it is killed, and writes down what was acknowledged."""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np

from skmars.serving import Events, StoreError, open_store


def main(url: str, acknowledged: str, seed: int) -> None:
    """Append batches of events, some of them twice; each event is told by user and time."""
    rng = np.random.default_rng(seed)
    store = open_store(url)
    log = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    moment = 1000.0 * seed
    while True:
        n = int(rng.integers(1, 20))
        # The first half repeats events of before, which may have been kept or not.
        time_ = np.floor(np.concatenate([moment - rng.integers(0, 20, n), moment + np.arange(n)]))
        users = [f"user-{int(t) % 7}" for t in time_]
        items = [int(t) % 13 for t in time_]
        moment += n
        while True:
            try:
                store.append(Events(users, items, time_, np.ones(2 * n, np.uint8)))
                break
            except StoreError:  # the server is being killed
                time.sleep(0.01)
        told = "".join(json.dumps([user, t]) + "\n" for user, t in zip(users, time_.tolist()))
        os.write(log, told.encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
