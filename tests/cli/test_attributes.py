"""Attributes of items and users: of one kind in all tables, and kept without a new table."""

from __future__ import annotations

from pathlib import Path

import pytest

from skmars.cli import main
from skmars.cli._inputs import read_labelled, read_log, read_rows
from skmars.cli._users import read_users
from skmars.persistence import load

from .shop import FAST_BASE, write

LOG = {
    "user_id": [1, 1, 2, 2, 3, 3],
    "item_id": [1, 2, 2, 3, 1, 3],
    "timestamp": [1, 2, 1, 3, 2, 4],
    "clicked": [1, 0, 1, 0, 1, 1],
}
ITEMS = {
    "item_id": [1, 2, 3],
    "title": ["Up", "Heat", "Big"],
    "price": ["9.5", "", "20"],
    "brand": ["07", "7", "7"],
    "genres": ["Action|Comedy", "Drama", ""],
}
USERS = {"user_id": [1, 2, 4], "age": [30, None, 50], "country": ["it", "fr", "de"]}
ROWS = {"user_id": [1, 3, 9], "item_id": [3, 1, 1]}


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


@pytest.fixture
def fit(tmp_path: Path) -> list[object]:
    files = ["--items", write(tmp_path, "items.csv", ITEMS)]
    files += ["--users", write(tmp_path, "users.csv", USERS)]
    out = ["--base", "--out", tmp_path / "m.skmars", *FAST_BASE]
    return ["fit", write(tmp_path, "log.csv", LOG), *files, *out]


def test_attributes_of_items(capsys, tmp_path: Path, fit) -> None:
    names = ["--attributes", "price,brand,genres", "--list-separator", "|"]
    assert run(capsys, *fit, *names)[0] == 0
    model = load(tmp_path / "m.skmars")
    kinds = {"price": "numbers", "brand": "strings", "genres": "lists"}
    assert model.columns.attributes == kinds
    attributes = model.histories.catalog.attributes
    assert attributes["price"].to_list() == pytest.approx([9.5, float("nan"), 20], nan_ok=True)
    assert attributes["brand"].to_list() == ["07", "7", "7"]
    assert attributes["genres"].to_list() == [["Action", "Comedy"], ["Drama"], []]
    # Another table is read as the one of fit: one genre is a list, too, and 7 is a string.
    other = ITEMS | {"genres": ["Drama", "", ""], "brand": [7, 8, 9]}
    _, X = read_rows(
        model,
        write(tmp_path, "rows.csv", ROWS),
        log=None,
        items=write(tmp_path, "other.csv", other),
    )
    assert X.catalog.attributes["genres"].to_list()[:3] == [["Drama"], [], []]
    assert X.catalog.attributes["brand"].to_list()[:3] == ["7", "8", "9"]
    wrong = write(tmp_path, "wrong.csv", ITEMS | {"price": ["9.5", "cheap", "20"]})
    rows = tmp_path / "rows.csv"
    code, _, err = run(capsys, "predict", tmp_path / "m.skmars", rows, "--items", wrong)
    assert code == 1
    for part in ("wrong.csv", "'price'", "'cheap' in row 1", "--attributes", "numbers"):
        assert part in err
    del other["price"]
    lacking = write(tmp_path, "other.csv", other)
    code, _, err = run(capsys, "predict", tmp_path / "m.skmars", rows, "--items", lacking)
    assert code == 1
    assert "'price'" in err


def test_attributes_of_users_stay_with_them(capsys, tmp_path: Path, fit) -> None:
    assert run(capsys, *fit)[0] == 0
    model = load(tmp_path / "m.skmars")
    assert model.columns.user_attributes == {"age": "numbers", "country": "strings"}
    rows, log = write(tmp_path, "rows.csv", ROWS), tmp_path / "log.csv"
    # A log in which user 1 does not occur changes nothing of who they are.
    newer = write(tmp_path, "newer.csv", {k: v[2:] for k, v in LOG.items()})
    labelled = write(tmp_path, "labelled.csv", ROWS | {"clicked": [1, 0, 1], "timestamp": [9] * 3})
    for X in (
        read_rows(model, rows, log=None, items=None)[1],
        read_rows(model, rows, log=newer, items=None)[1],
        read_labelled(model, labelled, log=newer, items=None)[0],
        read_users(model, rows, (), log=newer, items=None)[1],
    ):
        assert countries(X) == ["it", None, None]
    assert countries(read_log(log, None, model)[0]) == ["it", "it", "fr", "fr", None, None]
    newly = write(
        tmp_path, "newly.csv", {"user_id": [3, 9], "age": [1, 2], "country": ["es", "pt"]}
    )
    _, X = read_rows(model, rows, log=None, items=None, users=newly)
    assert countries(X) == [None, "es", "pt"]
    for command in (["predict", rows], ["recommend", rows], ["evaluate", log, "--holdout", "none"]):
        name, *rest = command
        code, _, err = run(capsys, name, tmp_path / "m.skmars", *rest, "--users", newly)
        assert code == 0, err


def countries(X) -> list:
    known = X.user_attributes["country"].to_list()
    return [known[user] for user in X.user]


def test_some_columns_of_the_users(capsys, tmp_path: Path, fit) -> None:
    users = write(tmp_path, "users.csv", USERS | {"born": ["2001-01-01"] * 3})
    code, _, err = run(capsys, *fit)
    assert code == 1
    for part in (str(users), "'born'", "--user-attributes", "leave it out"):
        assert part in err
    assert run(capsys, *fit, "--user-attributes", "country")[0] == 0
    assert load(tmp_path / "m.skmars").columns.user_attributes == {"country": "strings"}


def test_options_without_their_table(capsys, tmp_path: Path, fit) -> None:
    log, out = fit[1], ["--base", "--out", tmp_path / "n.skmars", *FAST_BASE]
    for options, part in [
        (["--attributes", "price"], "--items"),
        (["--user-attributes", "age"], "--users"),
        (["--list-separator", ""], "--list-separator"),
    ]:
        code, _, err = run(capsys, "fit", log, *out, *options)
        assert code == 2
        assert part in err
    assert "ids" in run(capsys, *fit, "--attributes", "item_id")[2]
    assert run(capsys, "fit", log, *out)[0] == 0
    rows, users = write(tmp_path, "rows.csv", ROWS), tmp_path / "users.csv"
    code, _, err = run(capsys, "predict", tmp_path / "n.skmars", rows, "--users", users)
    assert code == 1
    assert "without attributes of users" in err
    double = write(tmp_path, "users.csv", {"user_id": [1, 1], "age": [1, 2]})
    code, _, err = run(capsys, *fit)
    assert code == 1
    assert str(double) in err
