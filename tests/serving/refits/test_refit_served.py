"""A refit while a service answers: from the old space to the new one, and nothing between."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httptools")
pytest.importorskip("psutil")
pytest.importorskip("safetensors")
pytest.importorskip("msgspec")
pytest.importorskip("httpx2")
pytest.importorskip("lmdb")
pytest.importorskip("prometheus_client")

from skmars.serving import Request, Runner, Scorer, Snapshot, refit
from skmars.serving.service._server import _loader
from tests.serving.refits import shop
from tests.serving.served import wait_until
from tests.serving.service.test_service import run

ITEMS = [1, 2, 3, 99]
ASKED, BUSY = (1, 7, 1000), 5  # who does nothing meanwhile, and who goes on


def test_answers_switch_to_the_new_model(tmp_path: Path) -> None:
    folder = shop.deployment(tmp_path)
    told: list[Any] = []
    failed: list[str] = []
    end = threading.Event()
    with run(tmp_path, loads=_loader(folder, [])) as served:
        store = served.store.store
        shop.fill(store, pd.concat([shop.log(300), shop.log(80, seed=1, begin=100)]))

        def ask() -> None:
            n = 0
            while not end.is_set():
                answer = served.score(*({"user_id": user, "item_ids": ITEMS} for user in ASKED))
                click = served.click(BUSY, n % shop.N_ITEMS, time=1000.0 + n)
                n += 1
                if {answer.status_code, click.status_code} != {200}:
                    failed.append(f"{answer.text} {click.text}")
                    continue
                body = answer.json()
                versions = body["versions"]["params"], body["versions"]["pool"]
                told.append((versions, [user["probabilities"] for user in body["users"]]))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: told)
        done = refit(folder, store, worse_by=None)
        new = (done.model, done.pool)
        wait_until(lambda: told[-1][0] == new)
        n = len(told)
        wait_until(lambda: len(told) > n + 5)
        end.set()
        for thread in threads:
            thread.join(20)
        assert not failed
        assert [versions for versions, _ in told] == [
            *[(".", "fit")] * (k := [versions for versions, _ in told].index(new)),
            *[new] * (len(told) - k),
        ]
        expected = {}
        for versions in ((".", "fit"), new):
            snapshot = Snapshot.load_versions(folder, *versions)
            answers = Scorer(store).score(snapshot, [Request(user, ITEMS) for user in ASKED])
            expected[versions] = [answer.probability for answer in answers]
        assert not np.allclose(expected[".", "fit"], expected[new], atol=1e-3)
        for versions, probabilities in told:
            np.testing.assert_allclose(probabilities, expected[versions], atol=1e-6)
        # The same offline: the new model knows what these users did.
        rows = np.repeat(ASKED, len(ITEMS)), np.tile(ITEMS, len(ASKED))
        later = np.full(len(rows[0]), 9000.0)  # than all that the donors did
        X = snapshot.model.histories.impressions(*rows, later)
        offline = snapshot.pipeline.predict_proba(X)[:, 1].reshape(len(ASKED), -1)
        np.testing.assert_allclose(told[-1][1], offline, atol=1e-6)
        # The runner goes on with the new model, and the service takes its pools.
        (again,) = Runner(folder, store).passes()
        assert again.pool == "fits/1/pools/2"
        wait_until(
            lambda: (
                served.score({"user_id": 1, "item_ids": [1]}).json()["versions"]
                == {"params": "fits/1", "pool": "fits/1/pools/2"}
            )
        )
        # One goes back with one pointer.
        store.publish("model", ".")
        wait_until(
            lambda: (
                served.score({"user_id": 1, "item_ids": [1]}).json()["versions"]
                == {"params": ".", "pool": "fit"}
            )
        )
