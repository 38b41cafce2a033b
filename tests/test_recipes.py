"""The recipes of the guide run, and name what there is."""

from __future__ import annotations

import configparser
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skmars

RECIPES = Path(__file__).parents[1] / "docs/guide/recipes"
UNITS = sorted(RECIPES.glob("systemd/*.service"))

pytestmark = pytest.mark.skipif(not RECIPES.is_dir(), reason="the docs are not part of an sdist")


# --- metrics ------------------------------------------------------------------------------------


def expressions(value: Any) -> Iterator[str]:
    """Yield all that Prometheus would compute, of rules and of a dashboard."""
    if isinstance(value, list):
        for part in value:
            yield from expressions(part)
    elif isinstance(value, dict):
        yield from (value[key] for key in ("expr", "query") if key in value)
        yield from expressions(list(value.values()))


def asked() -> list[str]:
    yaml = pytest.importorskip("yaml")
    rules = yaml.safe_load((RECIPES / "prometheus/alerts.yml").read_text())
    board = json.loads((RECIPES / "prometheus/dashboard.json").read_text())
    return [*expressions(rules), *expressions(board)]


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """The metrics of the service, with the names of their labels."""
    pytest.importorskip("msgspec")
    parser = pytest.importorskip("prometheus_client.parser")
    from skmars.serving.service._metrics import Metrics
    from skmars.serving.service._trainer_status import TrainerStatus

    metrics = Metrics()
    metrics.answered("/score", 200, 0.1)
    metrics.set_versions({"params": ".", "pool": "pools/1"}, {"params": 1.0, "pool": 1.0})
    metrics.refusals.labels("queue_full").inc()
    metrics.store_misses.labels("late").inc()
    metrics.histories.labels("current").inc()
    metrics.events.labels("new").inc()
    metrics.trainer.seen = TrainerStatus(**STATUS), 3
    found: dict[str, set[str]] = {}
    for family in parser.text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


STATUS = {
    **{"position": 10, "n_events": 10, "time": time.time(), "log_loss": 0.6, "auc": 0.7},
    **{"current_log_loss": 0.7, "current_auc": 0.6, "rows": 9, "n_accepted": 1, "n_rejected": 0},
    "n_skipped": 0,
}


def test_alerts_and_dashboard_ask_for_metrics_that_there_are(told: dict[str, set[str]]) -> None:
    text = "\n".join(asked())
    names = set(re.findall(r"\bskmars_\w+", text))
    assert len(names) > 15
    assert names <= told.keys()
    selected = re.findall(r"(skmars_\w+)\{([^}]*)\}", text)
    labels = {(n, name) for n, all_ in selected for name in re.findall(r'(\w+)[=!]~?"', all_)}
    assert len(labels) > 10
    wrong = {(n, name) for n, name in labels if name not in told[n] | {"instance", "job"}}
    assert not wrong


def test_what_is_set_against_each_other_differs_in_no_label() -> None:
    """Prometheus joins series by their labels, so that others never meet without `ignoring`."""
    operator = r"\b(?:and|or|unless)\b(?!\s*(?:ignoring|on)\b)"
    for expression in asked():
        if not re.search(r"\b(?:sum|max|min|histogram_quantile)\b", expression):
            sides = [sorted(re.findall(r"\w+=[^,}]*", s)) for s in re.split(operator, expression)]
            assert all(side == sides[0] for side in sides), expression


def test_every_metric_is_on_the_dashboard(told: dict[str, set[str]]) -> None:
    text = (RECIPES / "prometheus/dashboard.json").read_text()
    endings = r"_(total|bucket|sum|count|created|info)$"
    hidden = {name for name in told if re.sub(endings, "", name) not in text}
    assert hidden <= {"skmars_trainer_position", "skmars_trainer_validation_rows"}


def test_values_of_labels_are_those_of_the_service() -> None:
    source = "".join(
        path.read_text()
        for path in sorted((Path(skmars.__file__).parent / "serving").rglob("*.py"))
    )
    values = set(re.findall(r'(?:reason|state|name|route)!?="([^"]*)"', "\n".join(asked())))
    assert {"queue_full", "current", "pool", "rejected", "/score"} <= values
    assert not {value for value in values if f'"{value}"' not in source}


def test_prometheus_reads_its_files(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((RECIPES / "prometheus/prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    assert {'job="skmars"'} == set(re.findall(r'job="\w+"', "\n".join(asked())))
    assert job["job_name"] == "skmars"
    assert [RECIPES / "prometheus" / name for name in config["rule_files"]] == [
        RECIPES / "prometheus/alerts.yml"
    ]
    if shutil.which("promtool") is None:
        pytest.skip("there is no program promtool")
    shutil.copytree(RECIPES / "prometheus", tmp_path, dirs_exist_ok=True)
    config = (tmp_path / "prometheus.yml").read_text()
    (tmp_path / "token").write_text("secret")
    config = config.replace("/etc/skmars/token", str(tmp_path / "token"))
    (tmp_path / "prometheus.yml").write_text(config)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- units --------------------------------------------------------------------------------------


def read(unit: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(unit)
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_arguments_of_units_are_those_of_the_command(unit: Path) -> None:
    from skmars.cli._command_line import make_parser

    program, *arguments = shlex.split(read(unit)["Service"]["ExecStart"])
    assert Path(program).name == "skmars"
    found = make_parser().parse_args(arguments)
    state = Path("/var/lib") / read(unit)["Service"]["StateDirectory"]
    assert found.model.parent == state  # which it may write
    assert found.store.startswith(f"lmdb:{state}/")


def test_units_restart_when_that_helps() -> None:
    from skmars.cli._command_line import main

    told = " ".join((main.__doc__ or "").split())
    assert "75 if another" in told
    assert "143 if " in told
    assert len(UNITS) == 3
    for unit in UNITS:
        service = read(unit)["Service"]
        assert service["Restart"] == "always"
        assert service["RestartPreventExitStatus"] == "2"  # argparse: wrong arguments
        assert service["User"] == "skmars"
        assert service["ProtectSystem"] == "strict"
        if unit.stem != "skmars":
            assert service["SuccessExitStatus"].split() == ["75", "143"]
    shared = [
        unit.read_text().partition("User=")[2].partition("SystemCallFilter")[0] for unit in UNITS
    ]
    assert len(set(shared)) == 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text().replace("/opt/skmars/bin/skmars", sys.executable)
        (tmp_path / unit.name).write_text(text)
    command = ["systemd-analyze", "--man=no", "verify", *map(str, tmp_path.glob("*.service"))]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    told = [line for line in done.stderr.splitlines() if "skmars" in line]
    assert not told, done.stderr


# --- MLflow and Feast ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("pyarrow")
    pytest.importorskip("safetensors")
    from skmars.persistence import Model

    X, y = skmars.make_multimodal_ctr(40, 20, random_state=0)
    small = {"align__n_components": 4, "align__id_dim": 4, "align__max_iter": 1}
    mars = skmars.make_mars(random_state=0, **small, ctr__max_iter=1, ctr__early_stopping=False)
    return Model.of(mars.fit(X, y), X)


@pytest.fixture
def folder(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the saved model in it."""
    skmars.save(model, tmp_path / "shop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(RECIPES / "feast", folder, dirs_exist_ok=True)
    monkeypatch.setattr(sys, "argv", ["export.py", "shop"])
    runpy.run_path("export.py")


def test_what_is_exported_are_the_embeddings(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export(folder, monkeypatch)
    items, users = (parquet.read_table(f"repo/{kind}s.parquet") for kind in ("item", "user"))
    assert items["item_id"].to_pylist() == model.histories.catalog.ids.tolist()
    assert users["user_id"].to_pylist() == model.histories.users.tolist()
    rows = model.pipeline[:-2].transform(model.histories.latest())
    assert list(model.pipeline.named_steps)[-2:] == ["augment", "ctr"]
    for table, vectors in ((items, rows.catalog.embedding), (users, rows.user_embedding)):
        np.testing.assert_array_equal(np.stack(table["embedding"].to_pylist()), vectors)


def test_feast_keeps_the_embeddings(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("feast")
    export(folder, monkeypatch)
    cli = pytest.importorskip("feast.cli.cli").cli
    cli.main(["-c", "repo", "apply"], standalone_mode=False)
    monkeypatch.chdir(folder)  # it went into the repository
    found = runpy.run_path("ask.py")["found"]
    rows = model.pipeline[:-2].transform(model.histories.latest())
    known = dict(zip(rows.catalog.ids.tolist(), rows.catalog.embedding))
    assert found["item_id"] == [7, 8]
    np.testing.assert_array_equal(found["embedding"], [known[7], known[8]])


def test_mlflow_predicts_the_same(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    shutil.copytree(RECIPES / "mlflow", folder, dirs_exist_ok=True)
    found = runpy.run_path("log.py")
    rows = model.histories.impressions(np.array([3, 3]), np.array([7, 8]))
    expected = model.pipeline.predict_proba(rows)[:, 1]
    np.testing.assert_array_equal(found["probability"], expected)
    at = found["rows"].assign(timestamp=-1e9)  # before all that they did
    assert (found["served"].predict(at) != expected).any()
