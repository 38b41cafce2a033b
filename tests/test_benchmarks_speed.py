"""The benchmark scripts measure what they say, and still run."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("benchmarks.peers", reason="the benchmarks are not part of a source package")
from benchmarks import from_disk, growth, interactions, measure, peers
from benchmarks.parts import networks
from benchmarks.serving import request
from benchmarks.serving.world import world


def test_synthetic_histories_are_what_was_before() -> None:
    X, y = interactions.synthetic(500, mean_length=7.0, n_items=30)
    assert len(X) == len(y) == 500
    for row in range(1, 500):
        same = X.user[row] == X.user[row - 1]
        before = [*X.history.row(row - 1), X.target[row - 1]] if same else []
        np.testing.assert_array_equal(X.history.row(row), before)


def test_padded_arrays_hold_the_last_items() -> None:
    X, _ = interactions.synthetic(300, mean_length=20.0)
    arrays = interactions.padded(X, 5)
    for row in range(0, 300, 7):
        seen = X.history.row(row)[-5:] + 1
        expected = np.r_[seen, np.zeros(5 - len(seen), dtype=int)]
        np.testing.assert_array_equal(arrays["hist_item"][row], expected)


def test_useful_flops_of_one_position() -> None:
    """Against the products written out: shapes (n, a) x (a, b) of a row with one item."""
    shapes = [(20, 80), (80, 40), (40, 1), (1, 10)]  # a position
    shapes += [(10, 80), (20, 200), (200, 80), (80, 1)]  # a row
    expected = sum(2 * a * b for a, b in shapes)
    assert networks.useful_flops(np.array([1]), training=False) == expected
    assert networks.useful_flops(np.array([1]), training=True) == 3 * expected


def test_contenders_are_all_or_those_named() -> None:
    known = {"a": 1, "b": 2, "c": 3}
    assert measure.chosen(known, None) == known
    assert measure.chosen(known, ["c", "a"]) == {"c": 3, "a": 1}
    with pytest.raises(SystemExit, match="'d'; there are: a; b; c"):
        measure.chosen(known, ["a", "d"])


def test_contenders_alternate() -> None:
    calls: list[str] = []
    contenders = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    results = measure.compare("part", contenders, 3)
    assert calls == ["a", "b"] * 3
    assert [len(r.seconds) for r in results] == [3, 3]


@pytest.mark.parametrize("part", ["din-predict,container", "retrieval,transform", "aligner"])
def test_parts_run(part: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "GEMM_SIZE", 64)
    monkeypatch.setattr(measure, "COPY_BYTES", 1 << 16)
    output = tmp_path / "peers.json"
    small = "--rows 200 --mean-length 8 --donors 1200 --queries 50 --width 8 --items 40"
    command = ["--parts", part, "--repeats", "1", "--threads", "1", "--output", str(output)]
    peers.main([*command, *small.split()])
    results = json.loads(output.read_text())["results"]
    assert {r["part"].split()[0] for r in results} >= set(part.split(","))
    assert all(s > 0 for r in results for s in r["seconds"])


def test_growth_is_drawn(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    points = [
        {"axis": "rows", "curve": curve, "size": n, "seconds": n * 1e-4, "peak_mb": n * 1e-3}
        for curve in growth.AXES["rows"].curves
        for n in (10, 100)
    ]
    growth.draw(points, tmp_path / "growth.svg")
    assert (tmp_path / "growth.svg").stat().st_size > 0
    assert "| 1.00 |" in growth.exponents(points)


@pytest.mark.parametrize("model", ["din", "aligner"])
def test_rows_on_disk_are_trained_on(model: str, tmp_path) -> None:
    pytest.importorskip("pyarrow")
    from_disk.write_log(tmp_path / "log-600.parquet", 600, 12, 20)
    small = ["--rows", "600", "--items", "20", "--model", model, "--folder", str(tmp_path)]
    disk, memory = (from_disk.main([*small, f"--only={w}"])[0] for w in ("disk", "memory"))
    assert disk["loss"] == memory["loss"]
    assert disk["fit"]["peak_mb"] > 0


def test_a_world_has_the_donors_that_it_was_asked_for_and_is_kept(tmp_path) -> None:
    made = world(40, n_items=120, dim=80, neighbors="exact", cache=tmp_path)
    augmenter = made.pipeline.named_steps["augment"]
    assert augmenter.donor_ids_.tolist() == made.histories.users[made.is_donor].tolist()
    assert augmenter.donor_embedding_.shape[1] <= 80
    again = world(40, n_items=120, dim=80, neighbors="exact", cache=tmp_path)
    ids = made.request(2, 10, n_events=None, unknown=True)
    probability = [each.pipeline.predict_proba(each.impressions(*ids)) for each in (made, again)]
    np.testing.assert_array_equal(*probability)
    log = made.log(slice(3))
    assert sorted(log["clicked"].unique()) == [0, 1]
    kinds = ["--users", "1", "--repeats", "1", "--search", "exact", "--first", "--profile"]
    sizes = ["--donors", "40", "--items", "120", "--dim", "80", "--cache", str(tmp_path)]
    found = request.main([*sizes, *kinds])
    assert {key[3] for key in found} == set(request.KINDS)
