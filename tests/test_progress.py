"""Progress of all four steps: scikit-learn's callbacks, `verbose`, and the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skmars import (
    LeaveLastOut,
    SequenceRetrievalAugmenter,
    make_mars,
    make_multimodal_ctr,
)
from skmars.encoding import clear_memory_cache
from skmars.retrieval import _plan as plan

LINES = (
    "[MultimodalEncoder] text: encoded 30 items in",
    "[MultimodalEncoder] image: encoded 30 items in",
    "[SteinAligner] epoch 2/2  loss",
    "[SequenceRetrievalAugmenter] ",
    " rows borrowed ",
    "[DINClassifier] epoch 2/2  loss",
)


class Recorder:
    """Writes down which tasks begin and end, at all depths of a search."""

    max_propagation_depth = None

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        self.ended: list[tuple[str, str]] = []

    def setup(self, estimator: Any, context: Any) -> None: ...

    def teardown(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self.begun.append((context.estimator_name, context.task_name))

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        self.ended.append((context.estimator_name, context.task_name))


@pytest.fixture(scope="module")
def data() -> Any:
    return make_multimodal_ctr(n_users=40, n_items=30, random_state=0)


def make_pipeline(verbose: int = 0) -> Pipeline:
    clear_memory_cache()
    small = {
        **{"align__n_components": 8, "align__id_dim": 4, "align__max_iter": 2},
        **{"encode__batch_size": 16, "augment__low_quantile": 0.5, "ctr__max_iter": 2},
    }
    loud = {f"{step}__verbose": verbose for step in ("encode", "align", "augment", "ctr")}
    return make_mars(random_state=0, **small, **loud)


def search_over(pipeline: Pipeline) -> GridSearchCV:
    return GridSearchCV(pipeline, {"augment__theta": [0.0, 0.5]}, cv=LeaveLastOut())


@pytest.mark.parametrize("within_a_search", [False, True])
def test_tasks(data: Any, within_a_search: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "BLOCK_ROWS", 8)
    model = search_over(make_pipeline()) if within_a_search else make_pipeline()
    recorder = Recorder()
    model.set_callbacks(recorder).fit(*data)
    n_fits = 3 if within_a_search else 1  # with the refit
    for task in (
        ("MultimodalEncoder", "encode text"),
        ("MultimodalEncoder", "encode image"),
        ("SteinAligner", "epoch 0"),
        ("SteinAligner", "epoch 1"),
        ("DINClassifier", "epoch 1"),
    ):
        assert recorder.begun.count(task) == n_fits
    n_folds = 5  # of users, each with donors of its own
    retrievals = recorder.begun.count(("SequenceRetrievalAugmenter", "retrieve"))
    assert retrievals == n_fits * n_folds
    assert recorder.begun.count(("MultimodalEncoder", "batch")) == 3  # all contents once
    assert recorder.begun.count(("SequenceRetrievalAugmenter", "block")) > n_fits
    assert sorted(recorder.begun) == sorted(recorder.ended)


def test_progress_bar_within_a_search(
    data: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    # rich keeps a console with the width that it found first, which may be that of another test.
    monkeypatch.setattr("rich._console", None)
    from sklearn.callback import ProgressBar

    search = search_over(make_pipeline())
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*data)
    out = capsys.readouterr().out
    for name in ("encode image", "SteinAligner - fit", "retrieve", "DINClassifier - fit"):
        assert name in out
    bars = out.splitlines()
    assert len(bars) > 15
    assert [bar for bar in bars if "100%" not in bar] == []


def test_verbose_prints_and_the_log_has_the_same_lines(
    data: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="skmars"):
        make_pipeline().fit(*data)
    assert capsys.readouterr().out == ""
    make_pipeline(verbose=1).fit(*data)
    out = capsys.readouterr().out
    assert {record.name for record in caplog.records} == {"skmars"}
    for line in LINES:
        assert line in caplog.text
        assert line in out


def test_details(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    make_pipeline(verbose=2).fit(*data)
    out = capsys.readouterr().out
    assert "[MultimodalEncoder] image: 16 of 30 items" in out
    assert "[SequenceRetrievalAugmenter] searched" in out


def test_fit_transform_gives_the_columns_of_transform(data: Any) -> None:
    X, y = data
    aligned = make_pipeline()[:2].fit_transform(X, y)
    augmenter = SequenceRetrievalAugmenter(low_quantile=0.5)
    at_once = augmenter.fit_transform(aligned)
    in_steps = augmenter.fit(aligned).transform(aligned)
    assert at_once.columns == in_steps.columns == list(augmenter.get_feature_names_out())
    history = ["user_id", "item_id", "history"]
    assert at_once.to_frame()[history].equals(in_steps.to_frame()[history])
