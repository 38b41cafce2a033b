"""The benchmarks of the paper's tables: what they compare is fair, and they run to the end."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import alignments, attributes, chance, choices, compare, out_of_fold, shops, tell
from benchmarks import update as days
from benchmarks.cells import difference, measured
from benchmarks.controls import RandomLookalikes, RandomUsers
from benchmarks.paper import statistics
from benchmarks.paper.__main__ import arguments_of, main
from benchmarks.paper.data import KEPT, SCARCE, WHOLE, cut_histories, make_problem, read
from benchmarks.paper.experiment import Experiment
from benchmarks.paper.fit import corrupted
from benchmarks.paper.methods import METHODS, TABLES, methods_of
from benchmarks.paper.report import command
from benchmarks.paper.results import Cell, short_histories
from benchmarks.paper.results import difference as auc_difference
from benchmarks.paper.tables import label
from benchmarks.prepare import prepared
from skmars import (
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    leave_last_out,
    make_mars,
    make_multimodal_ctr,
)

SHORT = {"ctr__max_iter": 1, "ctr__hidden_units": (8,)}
SHORT |= {"align__max_iter": 1, "align__n_components": 8, "align__id_dim": 4}
SET = ["--set", *(f"{name}={value}" for name, value in SHORT.items())]
TINY = ["--users", "40", "--seeds", "0", *SET]


def test_same_search_budget_for_every_method() -> None:
    searched = [m for m in METHODS.values() if m.like is None and not m.rates]
    assert {len(m.candidates) for m in searched} == {4}
    assert all(len(set(map(str, m.candidates))) == 4 for m in searched)


def test_controls_are_in_every_table() -> None:
    for table in TABLES:
        assert {"base", "activity", "random-donors", "mars"} <= set(TABLES[table])
        assert len(methods_of(table, "paper", content=False)) >= 5


def test_ablations_stand_beside_what_they_change() -> None:
    for table in ("3", "lambda", "beta", "robustness", "theta", "max_borrowed"):
        assert {METHODS[name].like for name in TABLES[table]} - {None} <= set(TABLES[table])
    of_space = [m for m in METHODS.values() if m.like == "aligned-space"]
    assert {m.fixed["augment__item_representation"] for m in of_space} == {"embedding"}
    others = [m for m in METHODS.values() if m.like not in (None, "aligned-space")]
    assert not any(key.startswith("align__") for m in others for key in m.fixed)


def test_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "N_RESAMPLES", 50)
    run = ["--synthetic", *TINY, "--output", str(tmp_path / "results"), "--table"]
    main([*run, "2", "retrieval", "alignment"])
    main([*run, "scarcity", "3", "--methods", "base", "mars", "no-text"])
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "results").rglob("*") if p.is_file()}
    main([*run, "2", "scarcity", "alignment", "--methods", "base", "mars"])  # nothing to do
    assert files == {p: p.stat().st_mtime_ns for p in files}

    made = [tmp_path / "made", tmp_path / "again"]
    for to in made:  # the same results give the same files
        main(["report", "--output", str(tmp_path / "results"), "--to", str(to)])
    files = {p.name: p.read_bytes() for p in made[0].iterdir()}
    assert files == {p.name: p.read_bytes() for p in made[1].iterdir()}
    text = files["synthetic-40-users-paper.md"].decode()
    assert all(f"| {label(name)} |" in text for name in TABLES["2"])
    for part in ("Table 3", "items kept", "cross-modal recall@1", "Cost", "log loss", "ECE"):
        assert part in text
    command = re.search(r"python -m benchmarks\.paper (.*?)```", text, re.DOTALL)
    assert command is not None
    repeated = arguments_of(shlex.split(command[1].replace("\\\n", "")))
    asked = arguments_of([*run, "2", "3", "scarcity", "retrieval", "alignment"])
    for name in ("synthetic", "users", "candidates", "seeds", "setting", "recent"):
        assert getattr(repeated, name) == getattr(asked, name)
    assert set(repeated.set) == set(asked.set)
    assert {"2", "3", "scarcity", "retrieval", "alignment"} == set(repeated.table)
    assert files["ml-1m-paper.md"].decode() == "Not measured with this version.\n"
    assert b"not measured" in files["summary.md"]
    for picture in ("forest.svg", "forest-short.svg", "scarcity.svg"):
        assert b"<text" in files[picture]  # that can be read and searched
        assert b"<dc:description>" in files[picture]
    cell = tmp_path / "results/synthetic-40-users/paper/full/mars/0.json"
    cell.write_text(cell.read_text().replace('"recent": 20', '"recent": null'))
    with pytest.raises(SystemExit, match="can't be compared"):
        main(["report", "--output", str(tmp_path / "results"), "--to", str(made[0])])
    cell.write_text(cell.read_text().replace('"recent": null', '"recent": 20'))
    with pytest.raises(SystemExit):
        main(["report", "--output", str(tmp_path / "nothing"), "--to", str(made[0])])
    with pytest.raises(SystemExit, match="--output"):  # other settings are never mixed in
        main([*run, "2", "--set", "ctr__max_iter=2"])


def test_all_rows_have_a_folder_of_their_own() -> None:
    of_all = Experiment(kind="ml-1m", recent=None)
    assert (Experiment(kind="ml-1m").name, of_all.name) == ("ml-1m", "ml-1m-all-rows")
    repeated = command(of_all.protocol, [0], ["2"]).replace("\\\n", "")
    asked = arguments_of(shlex.split(repeated.removeprefix("python -m benchmarks.paper ")))
    assert asked.all_rows
    assert (asked.data_kind, asked.seeds, asked.table) == ("ml-1m", [0], ["2"])


def test_sampled_negatives(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    lines = [[u, *rng.permutation(40)[: 5 + u % 4]] for u in range(20)]
    path = tmp_path / "shop.txt"
    path.write_text("\n".join(" ".join(map(str, line)) for line in lines))
    source = read("amazon-ids", path, "paper", None, 0)
    X, y = source.X, source.y
    np.testing.assert_array_equal(y, np.tile([1, 0], len(y) // 2))
    for row in range(len(X)):
        bought = lines[X.user[row]][1:]
        assert (X.item_ids[row] in bought) == (y[row] == 1)
        before = X.catalog.ids[X.history.row(row)].tolist()
        assert before == bought[: bought.index(X.item_ids[row - row % 2])]
    problem = make_problem(source, "paper", "full", 0)
    assert [X.item_ids[r] for r in problem.test[::2]] == [line[-1] for line in lines]
    everything = np.concatenate([problem.train, problem.valid, problem.test])
    np.testing.assert_array_equal(np.sort(everything), np.arange(len(X)))


def test_beauty_of_the_tables_is_the_seven_core(tmp_path: Path) -> None:
    core = [[100 + u, *(i for i in range(9) if i != u)] for u in range(9)]  # 8 events of each
    lines = [*core, [200, *range(7), 99], [201, *range(6)]]  # 99 has one event
    path = tmp_path / "beauty.txt"
    path.write_text("\n".join(" ".join(map(str, line)) for line in lines))
    X = read("amazon-beauty", path, "paper", None, 0).X
    events = X.users[X.user[::2]]
    np.testing.assert_array_equal(events, np.repeat([*range(100, 109), 200], [8] * 9 + [7]))
    assert X.catalog.ids.tolist() == list(range(9))
    path.write_text("1 10 11 12\n2 10 11\n")
    with pytest.raises(SystemExit, match="a user bought all items"):
        read("amazon-ids", path, "paper", None, 0)


def test_full_split_is_leave_last_out() -> None:
    source = read("synthetic", None, "strong", 40, 0)
    problem = make_problem(source, "strong", "full", 0)
    for ours, theirs in zip((problem.train, problem.valid, problem.test), leave_last_out(source.X)):
        np.testing.assert_array_equal(ours, theirs)


def test_recent_rows_are_the_last_training_rows_of_each_user() -> None:
    source = read("synthetic", None, "strong", 40, 0)
    every = make_problem(source, "strong", "full", 0)
    recent = make_problem(source, "strong", "full", 0, recent=3)
    user = source.X.user
    expected = [every.train[user[every.train] == u][-3:] for u in np.unique(user[every.train])]
    np.testing.assert_array_equal(recent.train, np.concatenate(expected))
    np.testing.assert_array_equal(recent.test, every.test)
    np.testing.assert_array_equal(recent.low, every.low)


def test_cut_histories_keep_the_last_items() -> None:
    X, _ = make_multimodal_ctr(50, 30, random_state=0)
    kept = np.random.RandomState(0).choice([0, 3, 10**6, WHOLE], len(X))
    shorter = cut_histories(X, kept)
    np.testing.assert_array_equal(shorter.context["cut"], kept < WHOLE)
    for row in range(len(X)):
        before = X.history.row(row)
        np.testing.assert_array_equal(
            shorter.history.row(row), before[max(0, len(before) - kept[row]) :]
        )


def test_scarce_split_cuts_the_histories_of_some_users() -> None:
    source = read("synthetic", None, "strong", 50, 0)
    problem = make_problem(source, "strong", SCARCE, 0, recent=3)
    cut = np.unique(source.X.user[problem.test])
    assert len(cut) == 15
    assert (np.bincount(source.X.user[problem.test])[cut] <= 5).all()
    assert not np.isin(problem.test, np.append(problem.train, problem.valid)).any()
    rows = np.append(problem.train, problem.valid)
    seen, whole = problem.X[rows], source.X[rows]
    shorter = seen.context["cut"] == 1
    assert 0.7 < shorter[np.isin(whole.user, cut)].mean() < 1  # seven of eight lengths
    assert not shorter[~np.isin(whole.user, cut)].any()
    assert seen.history.length[shorter].max() <= 20
    np.testing.assert_array_equal(seen.history.length[~shorter], whole.history.length[~shorter])
    assert list(problem.tests) == [f"keep-{k}" for k in (0, 1, 2, 3, 5, 10, 20, "all")]
    long = source.X.history.length[problem.test]
    for kept, X in zip(KEPT, problem.tests.values()):
        np.testing.assert_array_equal(
            X.history.length, long if kept is None else np.minimum(long, kept)
        )
        assert (X.context["cut"] == (kept is not None)).all()


def test_corrupted_features() -> None:
    X, _ = make_multimodal_ctr(20, 200, random_state=0)
    X = MultimodalEncoder().fit_transform(X)
    fewer = corrupted(X, ("text", 0.3), 0).catalog
    assert 0.2 < fewer.missing["text"].mean() < 0.4
    assert not fewer.features["text"][fewer.missing["text"]].any()
    np.testing.assert_array_equal(fewer.features["image"], X.catalog.features["image"])
    noisy = corrupted(X, ("noise", 0.5), 0).catalog.features["text"]
    clean = X.catalog.features["text"]
    assert np.std(noisy - clean) == pytest.approx(0.5 * clean.std(), rel=0.05)


def test_training_rows_are_made_without_their_own_users() -> None:
    X, y = make_multimodal_ctr(60, 40, random_state=0)
    train, _, test = leave_last_out(X)
    aligner = SteinAligner(8, id_dim=4, modalities=(), max_iter=1, random_state=0)
    rows: Any = prepared(aligner, (X[train], X[test]), y[train])
    augmenter = SequenceRetrievalAugmenter(user_representation="embedding")
    for step in (RandomUsers(), augmenter):
        rows = prepared(step, rows)
        assert (rows[0].fold >= 0).all()
        assert rows[1].fold is None or (rows[1].fold < 0).all()
    assert rows[0].borrowed.length.sum() > 0
    assert rows[1].borrowed.length.sum() > 0


def test_random_look_alikes_tell_nothing() -> None:
    X, y = make_multimodal_ctr(300, 100, random_state=0)
    X = MultimodalEncoder().fit_transform(X)
    told = [
        np.corrcoef(a(theta=1.1).fit_transform(X).context["lookalike_support"], y)[0, 1]
        for a in (SequenceRetrievalAugmenter, RandomLookalikes)
    ]
    assert told[0] > 0.2
    assert abs(told[1]) < 0.1


def test_random_users_are_no_copies_of_each_other() -> None:
    X, _ = make_multimodal_ctr(60, 40, random_state=0)
    all_rows, some = (RandomUsers().transform(rows).user_embedding for rows in (X, X[:50]))
    assert not np.isclose(all_rows[:50], some).any()
    np.testing.assert_array_equal(RandomUsers().transform(X).user_embedding, all_rows)


def test_resampled_auc_is_that_of_repeated_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "N_RESAMPLES", 5)
    rng = np.random.RandomState(0)
    y, score, user = rng.randint(2, size=60), rng.randint(8, size=60), rng.randint(20, size=60)
    draws = statistics._draws(25, 5).T
    assert (draws.sum(axis=1) == 25).all()
    for part in (slice(None), slice(20, 50)):  # the same users are drawn for any part
        found = statistics.resampled_auc(y[part], score[part], user[part], 25)
        weights = [draw[user[part]] for draw in draws]
        expected = [roc_auc_score(y[part], score[part], sample_weight=w) for w in weights]
        np.testing.assert_allclose(found, expected)


def test_difference_over_users_and_seeds() -> None:
    rng = np.random.RandomState(0)
    shift = statistics.paired_difference(np.full(5, 0.1), rng.normal(0.1, 0.01, (5, 2000)))
    assert shift.p < 0.001
    assert shift.low < 0.1 < shift.high
    # Seeds that disagree make for a wide interval, however sure each of them is.
    auc = np.array([0.1, -0.1, 0.1, -0.1, 0.05])
    assert statistics.paired_difference(auc, np.repeat(auc[:, None], 2000, axis=1)).p > 0.3


def test_calibration_error_is_the_mean_gap_of_equal_parts() -> None:
    rng = np.random.RandomState(0)
    logit, y = rng.normal(size=1003), rng.randint(2, size=1003)
    order = np.argsort(logit)
    gaps = [
        len(rows) * abs(y[rows].mean() - (1 / (1 + np.exp(-logit[rows]))).mean())
        for rows in np.array_split(order, 10)
    ]
    assert statistics.calibration_error(y, logit) == pytest.approx(sum(gaps) / 1003)
    few = np.round(logit)  # many rows of one probability: their order does not matter
    shuffled = rng.permutation(1003)
    assert statistics.calibration_error(y, few) == pytest.approx(
        statistics.calibration_error(y[shuffled], few[shuffled])
    )
    large = rng.normal(size=200_000)
    clicks = rng.uniform(size=len(large)) < 1 / (1 + np.exp(-large))
    assert statistics.calibration_error(clicks, large) < 0.01
    assert statistics.calibration_error(clicks, large + 1) > 0.1


def test_log_loss_of_logits() -> None:
    y, logit = np.array([0, 1, 1]), np.array([-2.0, 0.0, 80.0], dtype=np.float32)
    expected = (np.log1p(np.exp(-2)) + np.log(2)) / 3
    assert statistics.log_loss(y, logit) == pytest.approx(expected)


def test_the_small_shop_needs_no_file() -> None:
    assert arguments_of(["--data-kind", "shop"]).data is None
    with pytest.raises(SystemExit):
        arguments_of(["--data-kind", "ml-1m"])


def test_short_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "N_RESAMPLES", 20)
    rng = np.random.RandomState(0)

    def cell(n: int, kept: int = 3) -> Cell:
        y = np.arange(n) % 2
        activity = np.where(np.arange(n) < 200, kept, 6)
        rows = {"y": y, "user": np.arange(n) // 2, "activity": activity, "low": y == 1}
        return Cell({}, rng.normal(y, 2), rows)

    some = cell(300)
    y, score, _ = some.part("few")
    assert len(y) == 200
    assert some.score("few") == pytest.approx(roc_auc_score(some.rows["y"][:200], score))
    assert np.isnan(cell(199).score("few"))  # too few rows to say anything
    assert auc_difference({0: cell(199)}, {0: cell(199)}, "few") is None

    points = {k: {"base": {0: cell(250), 1: cell(250)}, "mars": {0: cell(250)}} for k in KEPT}
    found = short_histories(points)
    scores = [points[k]["mars"][0].score() for k in (0, 1, 2, 3, 5)]
    assert found["mars"][0].score() == pytest.approx(np.mean(scores))
    gain = auc_difference(found["mars"], found["base"])
    assert gain is not None
    base = np.mean([points[k]["base"][0].score() for k in (0, 1, 2, 3, 5)])
    assert gain.value == pytest.approx(np.mean(scores) - base)
    del points[2]
    assert short_histories(points) == {}


def test_holm() -> None:
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(statistics.holm([0.04, np.nan, 0.5]), [0.08, np.nan, 0.5])


def test_cells_are_measured_once(tmp_path: Path) -> None:
    done = []

    def measure(n: int, settings: dict[str, Any]) -> dict[str, int]:
        done.append(n)
        return {"square": n * n}

    output = tmp_path / "new" / "cells.jsonl"
    cells = [{"n": n, "settings": {"units": (n, 1)}} for n in (1, 2)]
    measured(output, cells[:1], measure)
    results = measured(output, cells, measure)
    assert done == [1, 2]
    assert [found["square"] for found in results] == [1, 4]
    assert len(output.read_text().splitlines()) == 2


def test_written_differences() -> None:
    assert difference([0.25]) == "+0.2500"
    assert difference([0.1, 0.2, 0.3]) == "+0.2000 [-0.0484, +0.4484]"


@pytest.mark.parametrize("history", ["all", "positive"])
@pytest.mark.parametrize("times", [True, False])
def test_labels_of_chance(history: str, times: bool) -> None:
    X, y = chance.coin_flips(400, 60, history, times, 0)
    assert (np.bincount(X.user) >= 4).all()
    assert y.mean() == pytest.approx(0.5, abs=0.03)
    assert (X.time is not None) == times
    assert (X.history.feedback is not None) == (history == "all")


def found(validation: float, loss: float) -> dict[str, Any]:
    cell = {"setting": "default pipeline", "history": "all", "times": True, "n_items": 50}
    names = ("validation_best", "aligner_best", "aligner_last", "auc", "training_auc")
    return {
        "cell": cell,
        **dict.fromkeys(names),
        "validation_last": validation,
        "log_loss": loss,
    }


def test_verdict_on_chance() -> None:
    honest, believer = found(0.52, 0.694), found(0.60, 0.694)
    assert "| pass |" in chance.summary([honest, found(0.47, 0.70)])
    assert "| FAIL |" in chance.summary([believer])
    assert "| pass |" in chance.summary([believer, found(0.44, 0.694)])  # by the means
    assert "| FAIL |" in chance.summary([found(0.5, 0.73)])
    assert "| FAIL |" in chance.summary([{**honest, "aligner_last": 0.58}])


def test_scripts_about_features_that_know_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ["--output", str(tmp_path / "results.jsonl"), "--seeds", "0"]
    for script in (chance, shops):
        monkeypatch.setattr(script, "make_mars", partial(make_mars, **SHORT))
    for _ in range(2):  # the second time, there is nothing to do
        chance.main([*output, "--users", "40", "--items", "30", "--max-iter", "1"])
        shops.main([*output, "--users", "100"])
        out_of_fold.main([*output, "--users", "40", *SET])
        assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 20 + 1 + 6
    text = capsys.readouterr().out
    for part in ("of 20 cells pass", "| 100 | 0 |", "| default | out of fold - in sample |"):
        assert text.count(part) == 2


def test_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "results.jsonl"
    tiny = ["--data-kind", "shop", "--users", "150", "--seeds", "0", "--output", str(output)]
    for _ in range(2):  # the second time, there is nothing to do
        choices.main([*tiny, *SET])
        assert len(output.read_text().splitlines()) == len(choices.CHOICES)
    text = capsys.readouterr().out
    assert all(text.count(f"| {name} |") == 2 for name in choices.CHOICES)
    assert choices.ALL_FEATURES not in choices.choices_of("amazon-ids")


def test_updates(capsys: pytest.CaptureFixture[str]) -> None:
    days.main(["--users", "60", "--days", "1", *SET])
    table = capsys.readouterr().out
    for name in days.MODELS:
        assert table.count(f"\n{name} ") == 2


def test_what_look_alikes_tell(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--users", "60", "--items", "30", "--max-iter", "1", "--seeds", "0"]
    tell.main([*size, "--histories", "positive"])
    table = capsys.readouterr().out
    for kind in tell.SETTINGS:
        assert f"| positive | {kind} | lookalike_support | 0." in table


def test_new_items_of_the_shop_with_attributes_are_new() -> None:
    (X, y, train, tests), probability = attributes.shop(0, n_users=60, n_items=30)
    touched = np.union1d(X.target[train], X.history[train].compact().items)
    assert not np.isin(X.target[tests["new items"]], touched).any()
    assert np.isin(X.target[tests["other items"]], touched).mean() > 0.9
    rows = np.concatenate([train, *tests.values()])
    assert sorted(rows) == list(range(len(X)))
    assert roc_auc_score(y, probability) > 0.75


@pytest.mark.parametrize("name", ["infonce", "cca"])
def test_alignments_are_measured(name: str) -> None:
    found = alignments.run(None, 40, "offline", {"n_items": 30}, {"ctr__max_iter": 1}, 0, name)
    assert found.keys() == alignments.COLUMNS.keys()
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("data", ["shop", "amazon"])
def test_compare_runs_without_networks(data: str, tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    file = tmp_path / "purchases.txt"
    lines = [[user, *rng.choice(30, 6, replace=False)] for user in range(50)]
    file.write_text("\n".join(" ".join(map(str, line)) for line in lines))
    run = ["--data", data, "--users", "40", "--folder", str(file), "--leave-out"]
    compare.main([*run, "DIN", "DIN + factors", "MARS"])
    assert "Use '" in capsys.readouterr().out
