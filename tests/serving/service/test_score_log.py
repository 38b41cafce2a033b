"""The log of scores: complete lines, a share of the requests, and never in the way."""

from __future__ import annotations

import json
import os
import threading

import numpy as np
import pytest

pytest.importorskip("msgspec")

from skmars.serving.scoring._replay import read_logged
from skmars.serving.scoring._request import Request
from skmars.serving.scoring._scorer import Answer
from skmars.serving.service import _score_log
from skmars.serving.service._score_log import ScoreLog

VERSIONS = {"params": ".", "pool": "fit"}


def scored(number):
    p = np.array([0.1 + 1e-17 * number, 0.25])
    request = Request(number, [1, 2], context={"a": "é\n", "b": [1, None]})
    return request, Answer(p, 10 + number, VERSIONS)


def test_what_is_written_is_what_was_scored(tmp_path):
    log = ScoreLog(tmp_path / "log", share=1.0)
    for number in range(300):
        assert log(*scored(number))
    log.close()
    records = list(read_logged(tmp_path / "log"))
    assert [r["user_id"] for r in records] == list(range(300))
    for number, record in enumerate(records):
        request, answer = scored(number)
        assert record["probability"] == answer.probability.tolist()
        assert record["context"] == dict(request.context)
        assert (record["position"], record["versions"]) == (10 + number, VERSIONS)


def test_a_share_is_written(tmp_path):
    log = ScoreLog(tmp_path / "log", share=0.2)
    for number in range(1000):
        assert log(*scored(number))
    log.close()
    assert 120 < len(list(read_logged(tmp_path / "log"))) < 290


def test_a_log_is_continued(tmp_path):
    for number in range(3):
        log = ScoreLog(tmp_path / "log", share=1.0)
        log(*scored(number))
        log.close()
    assert [r["user_id"] for r in read_logged(tmp_path / "log")] == [0, 1, 2]


def test_a_slow_disk_is_not_waited_for(tmp_path, monkeypatch):
    may_write, write = threading.Event(), os.write

    def slow(file, data):
        may_write.wait(20)
        return write(file, data)

    monkeypatch.setattr(_score_log.os, "write", slow)
    log = ScoreLog(tmp_path / "log", share=1.0)
    kept = [log(*scored(number)) for number in range(3000)]
    assert 1000 <= sum(kept) <= 1001
    may_write.set()
    log.close()
    assert len(list(read_logged(tmp_path / "log"))) == sum(kept)


def test_a_full_disk_cuts_no_line(tmp_path, monkeypatch):
    # The disk takes half a line, then nothing, then all again.
    write, calls = os.write, []
    monkeypatch.setattr(_score_log.time, "sleep", lambda _: None)

    def full(file, data):
        calls.append(data)
        if len(calls) == 2:
            return write(file, data[:10])
        if len(calls) in (3, 4, 6):
            raise OSError(28, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(_score_log.os, "write", full)
    log = ScoreLog(tmp_path / "log", share=1.0)
    for number in range(5):
        log(*scored(number))
    log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["user_id"] for line in lines] == [0, 1, 3, 4]


def test_a_log_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        ScoreLog(tmp_path / "nowhere" / "log")
