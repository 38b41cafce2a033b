"""What the displays draw: data, labels, and what they say when they can't."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    SequenceRetrievalAugmenter,
    SteinAligner,
)
from skmars.data import Sequences
from skmars.metrics import retrieval_precision_at_k
from skmars.plotting import (
    ActivityAUCDisplay,
    AlignedSpaceDisplay,
    HistoryDisplay,
    LossCurveDisplay,
    RetrievalPrecisionDisplay,
    SearchCurveDisplay,
    SearchHeatmapDisplay,
)
from skmars.plotting._history import Cover, Group
from skmars.retrieval._donors import Own
from skmars.retrieval._neighbors import donors_of_rows
from skmars.utils import _ragged as ragged


@pytest.fixture(scope="module")
def search() -> GridSearchCV:
    rng = np.random.RandomState(0)
    X = rng.normal(size=(90, 3))
    y = (X[:, 0] + 0.5 * rng.normal(size=90) > 0).astype(int)
    grid = {"max_depth": [3, 1, 2], "min_samples_leaf": [1, 20], "criterion": ["gini", "entropy"]}
    tree = DecisionTreeClassifier(random_state=0)
    return GridSearchCV(tree, grid, cv=3, scoring="roc_auc", return_train_score=True).fit(X, y)


def make_every_display(planted: Any) -> list[Any]:
    rng = np.random.RandomState(0)
    y, score = rng.randint(2, size=100), rng.normal(size=100)
    scores = rng.uniform(size=(3, 2))
    return [
        ActivityAUCDisplay.from_predictions(y, score, rng.poisson(4, size=100)),
        LossCurveDisplay([0.7, 0.6, 0.5]).plot(),
        RetrievalPrecisionDisplay.from_embeddings(scores, scores, name="toy"),
        SearchCurveDisplay(
            param_name="theta",
            param_range=np.array([0.0, 0.5, 1.0]),
            train_scores=None,
            test_scores=scores,
            score_name="AUC",
        ).plot(),
        SearchHeatmapDisplay("a", "b", [1, 2], [1, 2, 3], scores).plot(),
        HistoryDisplay.from_impressions(planted[0]),
    ]


def test_conventions(planted: Any, plt: Any) -> None:
    for display in make_every_display(planted):
        figure, ax = plt.subplots()
        again = display.plot(ax=ax)
        assert again is display
        assert display.ax_ is ax
        assert display.figure_ is figure
        if not isinstance(display, HistoryDisplay):
            assert ax.get_xlabel()
            assert ax.get_ylabel()
        figure.canvas.draw()


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_text_follows_the_style(planted: Any, plt: Any, style: str) -> None:
    with plt.style.context(style):
        display = HistoryDisplay.from_impressions(planted[0])
        expected = plt.rcParams["text.color"]
        assert {text.get_color() for text in display.titles_ + display.labels_} == {expected}


def test_new_axes_have_colours_that_all_can_tell_apart(plt: Any) -> None:
    display = LossCurveDisplay([0.7, 0.6]).plot()
    colours = [display.ax_.plot([0, 1])[0].get_color() for _ in range(4)]
    assert len(set(colours)) == 4
    for colour in colours:
        assert_contrast_to_black_and_white(colour)


def assert_contrast_to_black_and_white(colour: str) -> None:
    """WCAG: a contrast of 3 for graphics."""
    import matplotlib as mpl

    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) >= 3 - 0.05
    assert (luminance + 0.05) / 0.05 >= 3


class TestSharedAxes:
    """Several models on the same axes can be told apart, and what was there stays."""

    def pairs(self) -> dict[str, Any]:
        """Return functions that draw a model of that name on axes."""
        rng = np.random.RandomState(0)
        y, activity = rng.randint(2, size=200), rng.poisson(4, size=200)
        labels = rng.randint(3, size=40)
        both = {"query_labels": labels, "candidate_labels": labels}
        vectors = {name: rng.normal(size=(40, 3)) for name in "ab"}
        scores = {name: y + rng.normal(size=200) for name in "ab"}

        def activity_auc(ax: Any, name: str) -> Any:
            return ActivityAUCDisplay.from_predictions(y, scores[name], activity, name=name, ax=ax)

        def precision(ax: Any, name: str) -> Any:
            v = vectors[name]
            return RetrievalPrecisionDisplay.from_embeddings(v, v, **both, name=name, ax=ax)

        def loss(ax: Any, name: str) -> Any:
            return LossCurveDisplay([0.7, 0.6], [0.5, 0.6], name=name).plot(ax)

        def curve(ax: Any, name: str) -> Any:
            return SearchCurveDisplay(
                param_name="theta",
                param_range=np.array([0.0, 0.1]),
                train_scores=None,
                test_scores=rng.uniform(size=(2, 3)),
                score_name="AUC",
            ).plot(ax, name=name)

        return {"activity": activity_auc, "precision": precision, "loss": loss, "curve": curve}

    def curve_of(self, display: Any) -> Any:
        for name in ("line_", "lines_", "errorbar_"):
            if hasattr(display, name):
                found = getattr(display, name)
                found = found.lines if name == "errorbar_" else found
                return found[0] if isinstance(found, list | tuple) else found
        raise AssertionError

    @pytest.mark.parametrize("kind", ["activity", "precision", "loss", "curve"])
    @pytest.mark.parametrize("own", [True, False])
    def test_two_models(self, plt: Any, kind: str, own: bool) -> None:
        draw = self.pairs()[kind]
        ax = None if own else plt.subplots()[1]
        a = draw(ax, "a")
        labels = a.ax_.get_xlabel(), a.ax_.get_ylabel()
        b = draw(a.ax_, "b")
        assert b.ax_ is a.ax_
        assert (a.ax_.get_xlabel(), a.ax_.get_ylabel()) == labels
        curves = self.curve_of(a), self.curve_of(b)
        assert curves[0].get_color() != curves[1].get_color()
        assert curves[0].get_marker() != curves[1].get_marker()
        entries = [text.get_text() for text in a.ax_.get_legend().get_texts()]
        for name in "ab":
            assert any(entry.startswith(name) for entry in entries)
        assert len(set(entries)) == len(entries)
        assert sum("chance" in entry for entry in entries) <= 1

    @pytest.mark.parametrize("kind", ["activity", "precision", "loss", "curve"])
    def test_what_the_reader_wrote_stays(self, plt: Any, kind: str) -> None:
        ax = plt.subplots()[1]
        ax.set(title="mine", xlabel="my x", ylabel="my y")
        self.pairs()[kind](ax, "a")
        assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("mine", "my x", "my y")

    def test_validation_scores_share_an_axis(self) -> None:
        draw = self.pairs()["loss"]
        a = draw(None, "a")
        b = draw(a.ax_, "b")
        c = LossCurveDisplay([0.7, 0.6], name="c").plot(a.ax_)
        assert len(a.figure_.axes) == 2
        assert a.validation_ax_ is b.validation_ax_ is c.validation_ax_
        for display in (a, b):
            assert display.line_.get_color() == display.validation_line_.get_color()
        assert len(a.ax_.get_legend().get_texts()) == 5

    def test_neighbouring_axes_have_validation_axes_of_their_own(self, plt: Any) -> None:
        left, right = plt.subplots(ncols=2, sharex=True)[1]
        draw = self.pairs()["loss"]
        a, b = draw(left, "a"), draw(right, "b")
        assert a.validation_ax_ is not b.validation_ax_

    def test_bins_of_activity_must_be_the_same(self) -> None:
        first = ActivityAUCDisplay.from_predictions([0, 1, 0, 1], [1, 2, 3, 4], [1, 1, 2, 2])
        with pytest.raises(ValueError, match="the axes show other bins of activity"):
            ActivityAUCDisplay.from_predictions(
                [0, 1, 0, 1], [1, 2, 3, 4], [1, 1, 7, 7], ax=first.ax_
            )

    def test_other_chances_have_lines_of_their_own(self) -> None:
        k, precision = np.array([1, 2]), np.array([0.5, 0.4])
        a, b, c = (
            RetrievalPrecisionDisplay(k=k, precision=precision, chance_level=level, name=name)
            for name, level in (("a", 0.1), ("b", 0.1), ("c", 0.2))
        )
        a.plot()
        b.plot(a.ax_)
        c.plot(a.ax_)
        assert a.chance_level_ is b.chance_level_
        assert c.chance_level_.get_label() == "chance level (c)"
        assert c.chance_level_.get_color() == c.line_.get_color()


@pytest.mark.parametrize("size", [(3.9, 3.0), (6.4, 4.8)])
def test_nothing_is_cut_off(planted: Any, plt: Any, size: tuple[float, float]) -> None:
    for display in make_every_display(planted):
        figure = display.figure_
        figure.set_size_inches(*size)
        if isinstance(display, HistoryDisplay):
            continue  # its size is that of the strip
        figure.canvas.draw()
        for ax in figure.axes:
            drawn, page = ax.get_tightbbox(), figure.bbox.padded(1)
            assert page.containsx(drawn.x0), display
            assert page.containsx(drawn.x1), display
            assert page.containsy(drawn.y0), display
            assert page.containsy(drawn.y1), display


def test_long_titles_get_several_lines(plt: Any) -> None:
    title = "A user whose name is as long as $those of a bank's customers are, or longer"
    display = HistoryDisplay([Group("shown", "shown", [Cover("Up", None)])], title=title).plot()
    text = display.ax_.title
    assert text.get_text().split() == title.split()
    display.figure_.canvas.draw()
    assert text.get_window_extent().width <= display.figure_.bbox.width


def test_without_matplotlib(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    displays = make_every_display(planted)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for display in displays:
        with pytest.raises(ImportError, match=f"{type(display).__name__}.plot requires matplotlib"):
            display.plot()
    with pytest.raises(ImportError, match="from_estimator requires matplotlib"):
        HistoryDisplay.from_estimator(planted[4], planted[0])


class TestLossCurve:
    def test_draws_what_training_left_behind(self) -> None:
        rng = np.random.RandomState(0)
        X = rng.normal(size=(120, 4))
        model = DINClassifier(max_iter=3, early_stopping=True, random_state=0)
        model.fit(X, (X[:, 0] > 0).astype(int))
        display = LossCurveDisplay.from_estimator(model)
        np.testing.assert_array_equal(display.line_.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(display.line_.get_ydata(), model.loss_curve_)
        line = display.validation_line_
        np.testing.assert_array_equal(line.get_ydata(), model.validation_scores_)
        entries = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        best = max(model.validation_scores_)
        assert entries == [
            "DINClassifier: training loss",
            f"DINClassifier: validation score (best {best:.3f})",
        ]

    def test_no_second_axis_without_validation(self, planted: Any) -> None:
        display = LossCurveDisplay.from_estimator(planted[3])
        assert display.validation_line_ is None
        assert display.validation_ax_ is None
        assert len(display.figure_.axes) == 1

    def test_of_a_pipeline_names_the_step(self, planted: Any) -> None:
        pipeline = Pipeline([("align", planted[3])])
        with pytest.raises(TypeError, match=r"no loss_curve_. Pass pipeline\['align'\]"):
            LossCurveDisplay.from_estimator(pipeline)

    def test_of_what_is_not_trained_in_epochs(self, planted: Any) -> None:
        with pytest.raises(TypeError, match="such as DINClassifier"):
            LossCurveDisplay.from_estimator(planted[4])


class TestActivityAUC:
    def test_auc_of_each_bin(self) -> None:
        rng = np.random.RandomState(0)
        y, score, activity = rng.randint(2, size=400), rng.normal(size=400), rng.poisson(3, 400)
        display = ActivityAUCDisplay.from_predictions(y, score, activity, n_bins=5, name="toy")
        assert display.n_rows.sum() == 400
        for auc, low, high in zip(display.auc, display.lowest, display.highest):
            rows = (activity >= low) & (activity <= high)
            assert auc == pytest.approx(roc_auc_score(y[rows], score[rows]))
        np.testing.assert_allclose(display.errorbar_.lines[0].get_ydata(), display.auc)
        labels = [text.get_text() for text in display.ax_.get_xticklabels()]
        assert labels[0] == f"{display.lowest[0]}–{display.highest[0]}"

    def test_ties_stay_together(self) -> None:
        y = np.tile([0, 1], 50)
        activity = np.repeat([0, 7], [90, 10])
        display = ActivityAUCDisplay.from_predictions(y, y, activity, n_bins=10)
        np.testing.assert_array_equal(display.n_rows, [90, 10])
        np.testing.assert_array_equal(display.auc, [1, 1])
        np.testing.assert_array_equal(display.standard_error, [0, 0])

    def test_bins_of_one_class_have_no_auc(self) -> None:
        display = ActivityAUCDisplay.from_predictions([1, 1, 0, 1], [1, 2, 3, 4], [0, 0, 9, 9])
        np.testing.assert_array_equal(display.auc, [np.nan, 1.0])

    def test_standard_error_against_the_bootstrap(self) -> None:
        rng = np.random.RandomState(0)
        y = rng.randint(2, size=300)
        score = y + 1.5 * rng.normal(size=300)
        display = ActivityAUCDisplay.from_predictions(y, score, np.zeros(300))
        draws = [rng.randint(300, size=300) for _ in range(500)]
        spread = np.std([roc_auc_score(y[rows], score[rows]) for rows in draws])
        assert display.standard_error[0] == pytest.approx(spread, rel=0.15)

    def test_from_estimator_reads_the_history(self, planted: Any) -> None:
        X, y, *_ = planted
        model = DINClassifier(max_iter=1, random_state=0).fit(X, y)
        display = ActivityAUCDisplay.from_estimator(model, X, y, n_bins=4)
        proba = model.predict_proba(X)[:, 1]
        expected = ActivityAUCDisplay.from_predictions(y, proba, X.history.length, n_bins=4)
        np.testing.assert_array_equal(display.auc, expected.auc)
        assert display.name == "DINClassifier"

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="n_bins must be at least 1"):
            ActivityAUCDisplay.from_predictions([0, 1], [0, 1], [0, 1], n_bins=0)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            ActivityAUCDisplay.from_predictions([0, 1], [0, 1], [0, 1, 2])
        with pytest.raises(ValueError, match="activity contains NaN"):
            ActivityAUCDisplay.from_predictions([0, 1], [0, 1], [0, np.nan])


class TestRetrievalPrecision:
    def test_from_embeddings(self) -> None:
        rng = np.random.RandomState(0)
        queries, candidates = rng.normal(size=(20, 3)), rng.normal(size=(30, 3))
        labels = {
            "query_labels": rng.randint(3, size=20),
            "candidate_labels": rng.randint(3, size=30),
        }
        display = RetrievalPrecisionDisplay.from_embeddings(queries, candidates, **labels)
        np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, 21))
        expected = retrieval_precision_at_k(queries, candidates, k=np.arange(1, 21), **labels)
        np.testing.assert_array_equal(display.line_.get_ydata(), expected)
        matches = labels["query_labels"][:, None] == labels["candidate_labels"]
        assert display.chance_level == pytest.approx(matches.mean())

    @pytest.mark.parametrize("center", [True, False])
    @pytest.mark.parametrize("items", ["features", "embedding"])
    @pytest.mark.parametrize("users", ["history", "embedding"])
    @pytest.mark.parametrize("rows", ["fit_transform", "transform"])
    def test_searches_as_the_augmenter_does(
        self, planted: Any, out_of_fold: Any, rows: str, users: str, items: str, center: bool
    ) -> None:
        X = out_of_fold if rows == "fit_transform" else planted[0]
        augmenter = SequenceRetrievalAugmenter(
            low_quantile=0.5,
            theta=-1,
            user_representation=users,
            item_representation=items,
            center=center,
        ).fit(X)
        labels = dict(zip(X.users.tolist(), np.random.RandomState(0).randint(3, size=80).tolist()))
        # By hand: the donors that the augmenter tells for the longest row of each user.
        longest = X[ragged.longest(X.user, X.history.length)]
        told = augmenter.explain(longest, frame="pandas").drop_duplicates("row")
        X = X[np.isin(X.user_ids, told.user_id)]
        display = RetrievalPrecisionDisplay.from_estimator(augmenter, X, labels, k=[1])
        assert len(told) > 20
        same = told.user_id.map(labels).to_numpy() == told.donor_id.map(labels).to_numpy()
        assert display.precision[0] == pytest.approx(np.mean(same), abs=1e-12)

    @pytest.mark.parametrize("center", [True, False])
    @pytest.mark.parametrize("items", ["features", "embedding"])
    @pytest.mark.parametrize("users", ["history", "embedding"])
    @pytest.mark.parametrize("rows", ["fit_transform", "transform"])
    def test_somebody_with_the_history_of_a_donor_finds_that_donor(
        self, planted: Any, out_of_fold: Any, rows: str, users: str, items: str, center: bool
    ) -> None:
        X = out_of_fold if rows == "fit_transform" else planted[0]
        augmenter = SequenceRetrievalAugmenter(
            user_representation=users, item_representation=items, center=center
        ).fit(X)
        twins = X[ragged.longest(X.user, X.history.length)]
        twins = twins[np.isin(twins.user_ids, augmenter.donor_ids_)]
        twins = dataclasses.replace(twins, users=X.users + 1000)  # strangers, with their rows
        assert len(twins) > 10
        plan = augmenter._plan(twins, Own.nobody(len(twins)), augmenter.pool_, everybody=True)
        _, cosine = donors_of_rows(plan)
        np.testing.assert_array_equal(cosine[:, 0], 1.0)
        # Each is labelled as the donor is: the nearest one is always right.
        labels = {u: u % 1000 for u in range(2000)}
        display = RetrievalPrecisionDisplay.from_estimator(augmenter, twins, labels, k=[1])
        assert display.precision[0] == 1.0

    def test_only_donors_who_came_earlier(self) -> None:
        X = Impressions.from_frame(
            pd.DataFrame(
                {
                    "user_id": ["early", "late", "ann"],
                    "item_id": [1, 2, 3],
                    "history": [[1, 2, 2], [2, 1, 1], [2]],
                    "history_timestamp": [[1, 2, 3], [7, 8, 9], [4]],
                    "timestamp": [10, 10, 5],
                }
            ),
            ItemCatalog([1, 2, 3], embedding=np.eye(3)),
        )
        augmenter = SequenceRetrievalAugmenter(center=False).fit(X)
        labels = {"early": "right", "late": "wrong", "ann": "right"}
        display = RetrievalPrecisionDisplay.from_estimator(augmenter, X, labels)
        np.testing.assert_array_equal(display.precision, [1.0, 1.0])
        assert display.chance_level == 1.0
        labels = {"early": "wrong", "late": "right", "ann": "right"}
        with pytest.raises(ValueError, match="No user of X has a relevant donor"):
            RetrievalPrecisionDisplay.from_estimator(augmenter, X, labels)

    def test_errors(self, planted: Any) -> None:
        X, _, _, _, augmenter = planted
        with pytest.raises(ValueError, match="user_labels lacks 80 of the users"):
            RetrievalPrecisionDisplay.from_estimator(augmenter, X, {})
        with pytest.raises(TypeError, match="takes a SequenceRetrievalAugmenter, got SteinAl"):
            RetrievalPrecisionDisplay.from_estimator(planted[3], X, {})


class TestSearchCurve:
    def test_other_parameters_are_those_of_the_best_candidate(self, search: GridSearchCV) -> None:
        display = SearchCurveDisplay.from_cv_results(search.cv_results_, "max_depth")
        results = search.cv_results_
        expected = [
            next(
                mean
                for params, mean in zip(results["params"], results["mean_test_score"])
                if params == {**search.best_params_, "max_depth": depth}
            )
            for depth in (1, 2, 3)
        ]
        np.testing.assert_array_equal(display.lines_[0].get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(display.lines_[0].get_ydata(), expected)
        best = [search.best_params_["max_depth"], search.best_score_]
        np.testing.assert_allclose(display.best_.get_offsets().data, [best])
        assert display.ax_.get_xlabel() == "max_depth"
        assert display.ax_.get_ylabel() == "test score, mean ± std of folds"

    def test_train_scores(self, search: GridSearchCV) -> None:
        display = SearchCurveDisplay.from_cv_results(
            search.cv_results_, "max_depth", score_type="both"
        )
        assert len(display.lines_) == 2
        assert display.train_scores.shape == display.test_scores.shape == (3, 3)

    def test_errors(self, search: GridSearchCV) -> None:
        results = search.cv_results_
        with pytest.raises(TypeError, match="Pass search.cv_results_"):
            SearchCurveDisplay.from_cv_results(search, "max_depth")
        with pytest.raises(ValueError, match=r"'theta' was not searched over; the search has \["):
            SearchCurveDisplay.from_cv_results(results, "theta")
        with pytest.raises(ValueError, match="'criterion' must have at least two values"):
            SearchCurveDisplay.from_cv_results(results, "criterion")
        with pytest.raises(ValueError, match=r"metric='auc' is no score .* it has \['score'\]"):
            SearchCurveDisplay.from_cv_results(results, "max_depth", metric="auc")


class TestSearchHeatmap:
    def test_best_over_the_other_parameters(self, search: GridSearchCV) -> None:
        results = search.cv_results_
        display = SearchHeatmapDisplay.from_cv_results(results, "max_depth", "min_samples_leaf")
        for i, leaf in enumerate([1, 20]):
            for j, depth in enumerate([1, 2, 3]):
                means = [
                    mean
                    for params, mean in zip(results["params"], results["mean_test_score"])
                    if params["max_depth"] == depth and params["min_samples_leaf"] == leaf
                ]
                assert display.scores[i, j] == max(means)
                assert display.text_[i, j].get_text() == f"{max(means):.3f}"
        np.testing.assert_array_equal(display.im_.get_array(), display.scores)
        labels = [text.get_text() for text in display.ax_.get_xticklabels()]
        assert labels == ["1", "2", "3"]

    def test_numbers_stand_out_from_their_cell(self) -> None:
        display = SearchHeatmapDisplay("a", "b", [0, 1], [0], np.array([[0.0, 1.0]])).plot()
        assert [text.get_color() for text in display.text_[0]] == ["white", "black"]

    def test_cells_that_were_not_measured_stay_empty(self) -> None:
        scores = np.array([[np.nan, 1.0]])
        display = SearchHeatmapDisplay("a", "b", ["x", None], [0], scores).plot()
        assert display.text_[0, 0] is None
        assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["x", "None"]


class TestAlignedSpace:
    @pytest.mark.parametrize("reducer", ["pca", "tsne"])
    def test_modalities_of_items(self, planted: Any, reducer: str) -> None:
        X, _, _, aligner, _ = planted
        display = AlignedSpaceDisplay.from_estimator(
            aligner, X, reducer=reducer, max_items=15, random_state=0
        )
        for points, marks, lines in zip(
            (display.before, display.after), display.points_, display.lines_
        ):
            names = ["text", "image", "factors"]
            assert list(points) == names
            for name in points:
                np.testing.assert_array_equal(marks[name].get_offsets().data, points[name])
            ends = np.array(lines.get_segments())
            n = len(points["text"])
            for i, name in enumerate(names[1:]):
                np.testing.assert_array_equal(ends[i * n : (i + 1) * n, 0], points["text"])
                np.testing.assert_array_equal(ends[i * n : (i + 1) * n, 1], points[name])
        assert display.ax_[0].get_title() == "before: features"

    def test_a_catalogue_serves_as_well(self, planted: Any) -> None:
        X, _, _, aligner, _ = planted
        of_rows, of_items = (
            AlignedSpaceDisplay.from_estimator(aligner, what, random_state=0)
            for what in (X, X.catalog)
        )
        np.testing.assert_array_equal(of_rows.after["text"], of_items.after["text"])

    def test_items_without_a_modality_are_left_out(self, planted: Any) -> None:
        X, _, _, aligner, _ = planted
        lacks = np.arange(len(X.catalog)) < 5
        catalog = X.catalog.with_features(X.catalog.features, missing={"image": lacks})
        display = AlignedSpaceDisplay.from_estimator(aligner, catalog, random_state=0)
        assert len(display.after["text"]) == len(X.catalog) - 5

    def test_rotation_and_size_before_do_not_matter(self) -> None:
        rng = np.random.RandomState(0)
        text = rng.normal(size=(30, 2))
        image = 3 * text @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + 5
        views = {"text": text, "image": image}
        display = AlignedSpaceDisplay.from_embeddings(views, views, random_state=0)
        np.testing.assert_allclose(display.before["text"], display.before["image"], atol=1e-8)
        assert not np.allclose(display.after["text"], display.after["image"], atol=0.1)

    def test_errors(self) -> None:
        views = {"text": np.eye(4), "image": np.eye(4)}
        with pytest.raises(ValueError, match="must have the same modalities, two at least"):
            AlignedSpaceDisplay.from_embeddings({"text": np.eye(4)}, {"text": np.eye(4)})
        with pytest.raises(ValueError, match="reducer must be 'pca', 'tsne' or"):
            AlignedSpaceDisplay.from_embeddings(views, views, reducer="umap")
        with pytest.raises(ValueError, match="At least three items"):
            AlignedSpaceDisplay.from_embeddings(
                {k: v[:2] for k, v in views.items()}, {k: v[:2] for k, v in views.items()}
            )

    def test_input_of_another_kind(self, planted: Any) -> None:
        X, _, _, aligner, _ = planted
        with pytest.raises(TypeError, match=r"takes a SteinAligner, got Pipeline. Of a pipeline"):
            AlignedSpaceDisplay.from_estimator(Pipeline([("align", aligner)]), X)
        with pytest.raises(TypeError, match="was fitted on impressions, but X is a plain array"):
            AlignedSpaceDisplay.from_estimator(aligner, np.eye(4))
        with pytest.raises(NotFittedError):
            AlignedSpaceDisplay.from_estimator(SteinAligner(), X)

    def test_needs_two_axes(self, plt: Any) -> None:
        points = {"text": np.eye(2), "image": np.eye(2)}
        display = AlignedSpaceDisplay(before=points, after=points)
        for ax in (plt.subplots()[1], []):
            with pytest.raises(ValueError, match="ax must be two Axes"):
                display.plot(ax)
        axes = plt.subplots(2)[1]
        assert list(display.plot(list(axes)).ax_) == list(axes)


class TestHistory:
    def row(self, planted: Any) -> int:
        X, *_, augmenter = planted
        borrowed = augmenter.transform(X).borrowed
        return int(np.flatnonzero((borrowed.length > 2) & (X.history.length > 0))[0])

    def test_draws_borrowed_own_and_shown(self, planted: Any) -> None:
        X, *_, augmenter = planted
        row = self.row(planted)
        display = HistoryDisplay.from_estimator(augmenter, X, row=row, max_borrowed=99, max_own=99)
        lent = augmenter.transform(X[[row]]).borrowed
        items = [*lent.row(0), *X.history.row(row), X.target[row]]
        titles = [text.get_text() for text in display.titles_]
        assert titles == [X.catalog.titles[i] for i in items]
        for image, item in zip(display.images_, items):
            np.testing.assert_array_equal(image.get_array(), X.catalog.content["image"][item])
        notes = [text.get_text() for text in display.notes_]
        similarity = lent.similarity[lent.positions()]
        assert notes[: len(similarity)] == [f"s = {value:.2f}" for value in similarity]
        donor = lent.donors[lent.donor[lent.start[0]]]
        assert display.labels_[0].get_text().startswith(f"borrowed from user {donor}\n(similarity ")
        assert [text.get_text() for text in display.labels_[1:]] == ["own history", "shown"]
        dashed = [frame.get_linestyle() == "--" for frame in display.frames_]
        assert dashed == [True] * len(similarity) + [False] * (len(items) - len(similarity))

    def test_long_histories_are_cut_from_the_left(self, planted: Any) -> None:
        X = planted[0]
        row = int(np.argmax(X.history.length))
        display = HistoryDisplay.from_impressions(X, row=row, max_own=2)
        own = X.history.row(row)
        assert len(display.titles_) == 3
        assert display.titles_[1].get_text() == X.catalog.titles[own[-1]]
        assert display.labels_[0].get_text() == f"own history\n(last 2 of {len(own)})"

    def test_broken_and_missing_pictures_and_odd_titles(self, planted: Any) -> None:
        X = planted[0]
        n = len(X.catalog)
        content = {
            "image": [b"broken", None, "no/such/file.jpg"] + [None] * (n - 3),
            "title": ["$100 and $200"] * n,
        }
        row = int(np.argmax(X.history.length))
        display = HistoryDisplay.from_impressions(
            X.with_catalog(ItemCatalog(X.catalog.ids, content=content)), row=row
        )
        assert set(display.images_) == {None}
        display.figure_.canvas.draw()  # dollar signs are no mathematics

    def test_borrowed_items_of_unknown_origin(self, planted: Any) -> None:
        X = planted[0][[0]]
        borrowed = Sequences(
            np.array([1, 2], dtype=np.int32), np.array([0]), np.array([2], dtype=np.int32)
        )
        display = HistoryDisplay.from_impressions(X.with_borrowed(borrowed), max_borrowed=1)
        assert display.labels_[0].get_text() == "borrowed\n(last 1 of 2)"
        assert display.notes_[0].get_text() == ""

    def test_one_group_for_each_donor(self, planted: Any) -> None:
        X = planted[0][[0]]
        borrowed = Sequences(
            np.array([1, 2, 3], dtype=np.int32),
            np.array([0]),
            np.array([3], dtype=np.int32),
            donor=np.array([1, 0, 0], dtype=np.int32),
            donors=np.array(["ann", "bob"], dtype=object),
            similarity=np.array([np.nan, 0.5, 0.25], dtype=np.float32),
        )
        display = HistoryDisplay.from_impressions(X.with_borrowed(borrowed))
        labels = [text.get_text().replace("\n", " ") for text in display.labels_[:2]]
        assert labels == ["borrowed from user bob", "borrowed from user ann"]
        assert [text.get_text() for text in display.notes_[:3]] == ["", "s = 0.50", "s = 0.25"]

    def test_nothing_borrowed_or_owned_is_drawn_where_nothing_is_asked_for(
        self, planted: Any
    ) -> None:
        X, *_, augmenter = planted
        display = HistoryDisplay.from_estimator(
            augmenter, X, row=self.row(planted), max_borrowed=0, max_own=0
        )
        assert [text.get_text() for text in display.labels_] == ["shown"]

    def test_row_out_of_range(self, planted: Any) -> None:
        with pytest.raises(IndexError, match="row=100000 is out of range"):
            HistoryDisplay.from_impressions(planted[0], row=100000)
