"""Logged scores, computed again."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import skmars
from skmars.cli import main
from skmars.serving import Events, Request, Scorer, Snapshot, logged, open_store, replay
from tests.serving.shops import (
    LAST,
    N_ITEMS,
    N_USERS,
    Setting,
    events,
    first_log,
    fitted,
    save_params,
)
from tests.serving.shops import other_pool as pool_of

pytest.importorskip("safetensors")
pytest.importorskip("lmdb")
SETTING = Setting("all")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A deployment that has scored requests while events came and versions changed."""
    folder = tmp_path_factory.mktemp("served")
    skmars.save(fitted(SETTING), folder / "model")
    save_params(folder / "model", "params/1", fitted(SETTING, 1).pipeline[-1])
    (folder / "model" / "fits").mkdir()
    skmars.save(fitted(SETTING, 2), folder / "model" / "fits" / "1")
    save_params(folder / "model", "params/4", fitted(SETTING, 3).pipeline[-1], "fits/1")
    (folder / "model" / "fits" / "1" / "pools").mkdir()
    pool_of(SETTING).save(folder / "model" / "fits" / "1" / "pools" / "2")
    (folder / "model" / "pools").mkdir()
    pool_of(SETTING).save(folder / "model" / "pools" / "1")
    store = open_store(f"lmdb:{folder}/store")
    store.append(events(first_log()), streamed=False)
    scorer, rng, records = Scorer(store), np.random.default_rng(0), []
    for pointers in (
        {},
        {"pool": "pools/1"},
        {"params": "params/1"},
        {"fits/1/pool": "pools/2", "model": "fits/1"},
        {"fits/1/params": "params/4"},
        {"model": "."},
    ):
        for name, version in pointers.items():
            store.publish(name, version)
        snapshot = Snapshot.load(folder / "model", store)
        snapshot.check()
        for _ in range(3):
            n = 12
            store.append(
                Events(
                    rng.integers(N_USERS + 2, size=n).tolist(),
                    rng.integers(N_ITEMS + 2, size=n).tolist(),
                    rng.integers(LAST - 9, LAST + 9, size=n).astype(float),
                    rng.integers(2, size=n).astype(np.uint8),
                )
            )
            requests = [_request(rng) for _ in range(5)]
            answers = scorer.score(snapshot, requests)
            records += map(logged, requests, answers)
    store.append(events(first_log(), first=1000))  # nobody knew of these
    yield folder, store, records
    store.close()


def _request(rng: np.random.Generator) -> Request:
    items = rng.integers(N_ITEMS + 2, size=4)
    context = {"hour": rng.normal(size=4), "device": "phone"}
    time = None if rng.random() < 0.5 else float(rng.integers(LAST - 9, LAST + 9))
    return Request(rng.integers(N_USERS + 1), items, time, context)


def test_each_score_is_found_again(served) -> None:
    folder, store, records = served
    found = replay(folder / "model", store, records)
    assert (found.n_requests, found.n_scores) == (90, 360)
    assert found.max_difference <= 1e-6
    versions = {(".", "fit"), (".", "pools/1"), ("params/1", "pools/1")}
    versions |= {(params, "fits/1/pools/2") for params in ("fits/1", "fits/1/params/4")}
    assert found.by_version.keys() == versions
    assert sum(row["scores"] for row in found.by_version.values()) == 360
    assert not found.gone
    assert str(found).startswith("360 scores of 90 requests: the largest difference is ")


def test_json_lines_and_parquet_hold_the_same(served, tmp_path) -> None:
    folder, store, records = served
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n\n")
    texts = [{**r, "context": json.dumps(r["context"])} for r in records]
    parquet.write_table(arrow.Table.from_pylist(texts), tmp_path / "log.parquet")
    for name in ("log.jsonl", "log.parquet"):
        found = replay(folder / "model", store, tmp_path / name)
        assert (found.n_scores, found.max_difference <= 1e-6) == (360, True)


@pytest.mark.parametrize("changed", ["probability", "position", "versions"])
def test_what_was_made_otherwise_is_told(served, changed) -> None:
    folder, store, records = served
    other = [dict(record) for record in records]
    if changed == "probability":
        other[7]["probability"] = [0.5, 0.5, 0.5, 0.5]
    elif changed == "position":
        other = [{**record, "position": store.position} for record in other]
    else:
        other = [{**r, "versions": {**r["versions"], "params": "params/1"}} for r in other[:45]]
    found = replay(folder / "model", store, other)
    assert found.max_difference > 1e-4
    assert found.worst is not None
    assert np.abs(np.subtract(found.worst["probability"], found.worst["again"])).max() == (
        found.max_difference
    )


@pytest.mark.parametrize(
    ("gone", "counted"),
    [
        ("pools/1", {"pools/1": 45}),
        ("params/1", {"params/1": 30}),
        ("fits/1/params/4", {"fits/1/params/4": 15}),
        ("fits/1/pools/2", {"fits/1/pools/2": 30}),
        ("fits/1", {"fits/1": 15, "fits/1/params/4": 15, "fits/1/pools/2": 30}),
    ],
)
def test_a_version_that_is_gone_is_counted(served, tmp_path, gone, counted) -> None:
    folder, store, records = served
    model = shutil.copytree(folder / "model", tmp_path / "model")
    shutil.rmtree(model / gone)
    found = replay(model, store, records)
    assert found.gone == counted
    assert (found.n_requests, found.max_difference <= 1e-6) == (90 - max(counted.values()), True)
    assert f"{gone} is gone: {counted[gone]} requests" in str(found)


def test_wrong_logs_are_refused(served, tmp_path) -> None:
    folder, store, records = served
    model, path = folder / "model", tmp_path / "log.jsonl"
    for text, message in [
        ("{", "log.jsonl, line 1 is no JSON"),
        ("7", "log.jsonl, line 1 holds 7, and no record"),
        ('{"user_id": 1}', "log.jsonl, record 1: 'item_ids' is missing"),
        (json.dumps({**records[0], "versions": {}}), "versions must name 'params' and 'pool'"),
        (
            json.dumps({**records[0], "versions": {"params": 1, "pool": "fit"}}),
            "versions must name 'params' and 'pool'",
        ),
        (
            json.dumps({**records[0], "versions": {"params": ".", "pool": "fits/1/pools/2"}}),
            "belongs to another model than the parameters",
        ),
        (json.dumps({**records[0], "probability": [0.5]}), "has 1 probabilities for 4 items"),
        (json.dumps({**records[0], "position": 10**6}), "but the store ends at"),
        (
            json.dumps({**records[0], "versions": {"params": "../x", "pool": "fit"}}),
            "'../x' must be a folder below",
        ),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            replay(model, store, path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        replay(tmp_path / "nowhere", store, records)


def test_the_command_prints_and_judges(served, tmp_path, capsys) -> None:
    folder, _, records = served
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    shutil.copytree(folder / "store", tmp_path / "store")  # this one is open here
    command = ["replay", str(path), "--model", str(folder / "model")]
    command += ["--store", f"lmdb:{tmp_path}/store"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("360 scores of 90 requests")
    records = [{**records[0], "probability": [0.5] * 4}]
    path.write_text(json.dumps(records[0]))
    assert main(command) == 1
    assert "a score differs by" in capsys.readouterr().err
