"""Switches of parameters, pools and models under load: no request fails, no answer is mixed."""

from __future__ import annotations

import gc
import random
import threading
from copy import deepcopy
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("httptools")
pytest.importorskip("psutil")
pytest.importorskip("safetensors")
pytest.importorskip("msgspec")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx2")
pytest.importorskip("lmdb")

import skmars
from skmars.pipeline._steps import before_augmenter, with_classifier
from skmars.retrieval import DonorPool
from skmars.serving import Request, Scorer, Snapshot
from skmars.serving.service._server import _loader
from tests.serving.served import N_USERS, model, wait_until
from tests.serving.service.test_service import run
from tests.serving.shops import save_params

N_SWITCHES, N_CLIENTS = 30, 2
USERS = (1, 7, 10**6)
ITEMS = [1, 2, 3, 99]


def changed(classifier, by):
    """Return a classifier with other parameters."""
    other = deepcopy(classifier)
    with torch.no_grad():
        for weights in other._network.parameters():
            weights.mul_(by)
    return other


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """Two models, each with two versions of parameters and two pools."""
    folder, known = tmp_path_factory.mktemp("switches") / "model", model()
    augmenter, X = before_augmenter(known.pipeline, known.histories.latest())
    for name, by in ((".", 1.0), ("fits/1", 1.5)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        din = changed(known.pipeline[-1], by)
        skmars.save(replace(known, pipeline=with_classifier(known.pipeline, din)), path)
        for number in (1, 2):
            save_params(folder, f"params/{number}", changed(din, 1 + 0.1 * number), name)
            pool = DonorPool.build(augmenter, X[np.arange(N_USERS) % 3 == number])
            (path / "pools").mkdir(exist_ok=True)
            pool.save(path / "pools" / str(number))
    return folder


def test_no_switch_fails_a_request_or_mixes_an_answer(deployment, tmp_path):
    told, failed, end, tried = [], [], threading.Event(), []
    others = _snapshots()  # of other tests
    with run(tmp_path, loads=_loader(deployment, tried)) as served:
        for item in range(6):
            served.click(1, item)

        def ask():
            while not end.is_set():
                answer = served.score(*({"user_id": user, "item_ids": ITEMS} for user in USERS))
                if answer.status_code == 200:
                    body = answer.json()
                    versions = body["versions"]["params"], body["versions"]["pool"]
                    told.append((versions, [user["probabilities"] for user in body["users"]]))
                else:
                    failed.append(answer.text)

        threads = [threading.Thread(target=ask) for _ in range(N_CLIENTS)]
        for thread in threads:
            thread.start()
        rng, wanted, pointers = random.Random(0), {"params": ".", "pool": "fit"}, {}
        for _ in range(N_SWITCHES):
            name, value = rng.choice(
                [
                    *product(["pool", "fits/1/pool"], ["pools/1", "pools/2", "fit"]),
                    *product(["params", "fits/1/params"], ["params/1", "params/2", "."]),
                    *product(["model"], [".", "fits/1"] * 3),
                ]
            )
            pointers[name] = value
            served.store.publish(name, value)
            found = Snapshot.load(deployment, served.store).versions
            wanted = dict(found)
            wait_until(lambda w=wanted: served.client.get("/ready").json()["versions"] == w)
        end.set()
        for thread in threads:
            thread.join(20)
        assert not failed
        offline = {}
        for versions in {versions for versions, _ in told}:
            snapshot = Snapshot.load_versions(deployment, *versions)
            answers = Scorer(served.store).score(snapshot, [Request(u, ITEMS) for u in USERS])
            offline[versions] = [answer.probability for answer in answers]
        del snapshot
        assert len(offline) > 6
        for versions, probabilities in told:
            np.testing.assert_allclose(probabilities, offline[versions], atol=1e-6)
        assert served.metric("skmars_failed_loads_total") == 0
        known_before = set(map(id, others))
        alive = [snapshot for snapshot in _snapshots() if id(snapshot) not in known_before]
        assert [snapshot.versions for snapshot in alive] == [wanted]
    known = list(offline.values())
    for i, scores in enumerate(known):  # else a mixed answer would not be seen
        for other in known[:i]:
            assert not np.allclose(scores, other, atol=1e-6)


def _snapshots():
    """Return all snapshots that are in memory."""
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Snapshot]
