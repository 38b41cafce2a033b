"""A model made of a pipeline and its log is the one that the command line makes of the same log."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline

import skmars
from skmars import DINClassifier, Impressions, ItemCatalog, PopularityClassifier
from skmars.cli import main
from skmars.persistence import Columns, Model, register
from skmars.persistence._saved import load_model
from skmars.utils._folder import write_folder

from .equality import check_same

pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")


def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rng = np.random.RandomState(0)
    log = pd.DataFrame(
        {
            "who": [f"u{u}" for u in rng.randint(0, 20, 200)],
            "sku": rng.randint(0, 15, 200),
            "at": np.arange(200) * 60,
            "bought": rng.randint(0, 2, 200),
            "device": rng.choice(["app", "web"], 200),
            "hour": rng.randint(0, 24, 200),
            "new": rng.choice([True, False], 200),
        }
    )
    items = pd.DataFrame(
        {
            "sku": range(15),
            "title": [f"item {i}" for i in range(15)],
            "price": rng.uniform(size=15),
            "kind": rng.choice(["a", "b"], 15),
            "sale": rng.choice([True, False], 15),
        }
    )
    users = pd.DataFrame({"who": log["who"].unique()})
    users["age"] = range(len(users))
    return log, items, users


def network() -> DINClassifier:
    return DINClassifier(max_iter=1, hidden_units=(4,), attention_units=(2,), random_state=0)


@pytest.fixture(scope="module")
def fitted() -> tuple[Pipeline, Impressions]:
    log, items, users = tables()
    items["sale"], log["new"] = items["sale"].map(str), log["new"].map(str)
    catalog = ItemCatalog.from_frame(items, item="sku", attributes=["price", "kind", "sale"])
    names = {"user": "who", "item": "sku", "time": "at", "label": "bought"}
    X, y = Impressions.from_log(log, catalog, context=["device", "hour", "new"], **names)
    X = X.with_users(users, user="who")
    return Pipeline([("ctr", network())]).fit(X, y), X


def test_it_is_the_model_of_the_command_line(
    fitted: tuple[Pipeline, Impressions], tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, table in zip(("log", "items", "users"), tables()):
        table.to_csv(f"{name}.csv", index=False)
    command = (
        "fit log.csv --items items.csv --users users.csv --user who --item sku --time at "
        "--label bought --context device,hour,new --attributes price,kind,sale --base --quiet "
        "--out theirs --set ctr__max_iter=1 --set ctr__hidden_units=(4,) "
        "--set ctr__attention_units=(2,)"
    )
    assert main(command.split()) == 0
    pipeline, X = fitted
    ours, theirs = Model.of(pipeline, X), skmars.load("theirs")
    assert {f.name: getattr(ours.columns, f.name) for f in fields(Columns)} == {
        f.name: getattr(theirs.columns, f.name) for f in fields(Columns)
    }
    skmars.save(ours, "ours")
    tables()[0][["who", "sku", "device", "hour", "new"]].head(5).to_csv("rows.csv", index=False)
    found = []
    for name in ("ours", "theirs"):
        assert main(["predict", name, "rows.csv"]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]
    assert len(found[0].splitlines()) == 6


def test_it_is_loaded_as_it_was_saved(fitted: tuple[Pipeline, Impressions], tmp_path: Path) -> None:
    model = Model.of(*fitted, holdout="later", split_at=99.5, negatives=3, title="name")
    skmars.save(model, tmp_path / "m")
    again = skmars.load(tmp_path / "m")
    check_same(model, again)
    assert (again.holdout, again.split_at, again.negatives) == ("later", 99.5, 3)
    assert again.columns.title == "name"
    users, items = np.array(["u1", "new"], dtype=object), np.array([3, 77])
    a, b = (m.histories.impressions(users, items) for m in (model, again))
    check_same(a.to_frame("pandas").to_dict("list"), b.to_frame("pandas").to_dict("list"))


def test_logs_without_labels_times_or_zones() -> None:
    log = pd.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [1, 2, 3, 4]})
    pipeline = make_pipeline(PopularityClassifier())

    def columns(log: pd.DataFrame, **options: object) -> Columns:
        X, _ = Impressions.from_log(log, **options)
        return Model.of(pipeline.fit(X, [0, 1, 0, 1]), X).columns

    assert columns(log) == Columns(clicks_alone=True)
    assert columns(log, time=None, history="all") == Columns(
        time=None, history="all", clicks_alone=True
    )
    assert columns(log.assign(timestamp=range(4))).absolute is True
    dates = pd.date_range("2026-01-01", periods=4)
    assert columns(log.assign(timestamp=dates)).absolute is False
    assert columns(log.assign(timestamp=dates.tz_localize("UTC"))).absolute is True
    placed = columns(log.assign(step=range(4), rating=[0, 1, 1, 0]), order="step", label="rating")
    assert (placed.order, placed.label, placed.clicks_alone) == ("step", "rating", False)


def test_what_is_no_pipeline_or_log_is_refused(fitted: tuple[Pipeline, Impressions]) -> None:
    pipeline, X = fitted
    for arguments, options, error, message in [
        ((pipeline["ctr"], X), {}, TypeError, "must be a scikit-learn Pipeline.*make_pipeline"),
        ((pipeline, X.to_frame("pandas")), {}, TypeError, "X must be the impressions"),
        ((pipeline, X), {"names": 1}, TypeError, "no field 'names'; they have absolute"),
        ((make_pipeline(network()), X), {}, NotFittedError, "not fitted"),
        ((pipeline, X[:9]), {}, ValueError, "all rows that Impressions.from_log returned"),
    ]:
        with pytest.raises(error, match=message):
            Model.of(*arguments, **options)


def test_what_is_saved_and_loaded(fitted: tuple[Pipeline, Impressions], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be an estimator, a pipeline or a .*Model, got dict"):
        skmars.save({}, tmp_path / "m")
    write_folder(tmp_path / "m", "model", {"a": 1})
    with pytest.raises(ValueError, match="m holds a dict, which is no model"):
        skmars.load(tmp_path / "m")
    write_folder(tmp_path / "p", "pool", {"a": 1})
    with pytest.raises(ValueError, match="p holds a saved pool, not a model"):
        skmars.load(tmp_path / "p")
    skmars.save(fitted[0], tmp_path / "m")
    with pytest.raises(ValueError, match=r"holds a Pipeline alone.*Model.of\(pipeline, X\)"):
        load_model(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        skmars.load(tmp_path / "none")


class Lengths(PopularityClassifier):
    """A class of a user."""


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    pipeline = Pipeline([("first", "passthrough"), ("own", Lengths())])
    with pytest.raises(TypeError, match=r"steps\[1\]\['own'\].*Lengths.*register\(Lengths\)"):
        skmars.save(pipeline, tmp_path / "m")
    assert register(Lengths) is Lengths
    skmars.save(pipeline, tmp_path / "m")
    assert type(skmars.load(tmp_path / "m")["own"]) is Lengths
    manifest = (tmp_path / "m/manifest.json").read_text()
    assert "Lengths" in manifest
    from skmars.utils._folder import _classes

    del _classes._allowed_by_users[_classes.name_of(Lengths)]  # another process
    with pytest.raises(ValueError, match=r"Lengths.*skmars\.persistence\.register"):
        skmars.load(tmp_path / "m")
