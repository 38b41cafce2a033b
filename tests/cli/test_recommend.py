"""The best items of users: in the order of their probabilities, and of those asked for."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from skmars.cli import main
from skmars.persistence import load

from .shop import FAST_BASE, write


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


def lines(capsys, *arguments: object) -> list[dict[str, str]]:
    code, out, err = run(capsys, "recommend", *arguments)
    assert (code, err) == (0, ""), err
    return list(csv.DictReader(io.StringIO(out)))


def own_items(model: Path, user: int) -> set[str]:
    histories = load(model).histories
    row = histories.users.tolist().index(user)
    return {str(i) for i in histories.catalog.ids[histories.events.row(row)]}


def test_the_best_of_a_user_are_those_that_predict_finds(
    capsys, folder: Path, model: Path, tmp_path: Path
) -> None:
    ids = [int(i) for i in load(model).histories.catalog.ids]
    rows = write(tmp_path, "rows.csv", {"user_id": [2] * len(ids), "item_id": ids})
    code, out, _ = run(capsys, "predict", model, rows)
    assert code == 0
    own = own_items(model, 2)
    assert own
    for options, left_out in (([], own), (["--include-seen"], set())):
        found = lines(capsys, model, "--user-id", 2, "-n", 5, *options)
        table = list(csv.DictReader(io.StringIO(out)))
        p = {r["item_id"]: float(r["probability"]) for r in table if r["item_id"] not in left_out}
        assert [line["rank"] for line in found] == ["1", "2", "3", "4", "5"]
        assert list(found[0]) == ["user_id", "rank", "item_id", "title", "probability"]
        assert not left_out & {line["item_id"] for line in found}
        best = sorted(p.values(), reverse=True)[:5]
        for line, expected in zip(found, best):
            assert float(line["probability"]) == pytest.approx(expected, abs=1e-4)
            assert float(line["probability"]) == pytest.approx(p[line["item_id"]], abs=1e-4)


def test_users_come_from_a_table_a_list_or_the_log(
    capsys, folder: Path, model: Path, tmp_path: Path
) -> None:
    everybody = lines(capsys, model, "-n", 2)
    assert len(everybody) == 2 * len(load(model).histories.users)
    users = write(tmp_path, "users.csv", {"user_id": [7, 3]})
    some = lines(capsys, model, users, "-n", 2)
    assert [line["user_id"] for line in some] == ["7", "7", "3", "3"]
    key = ("user_id", "rank", "item_id", "title")
    named = lines(capsys, model, "--user-id", 7, "--user-id", 3, "-n", 2)
    for line, other in zip(some, named):
        assert [line[k] for k in key] == [other[k] for k in key]
    for line in some:
        assert [line[k] for k in key] in [[other[k] for k in key] for other in everybody]
    # Ten, unless told otherwise.
    assert len(lines(capsys, model, users)) == 20


def test_a_time_ends_the_history(capsys, folder: Path, model: Path, tmp_path: Path) -> None:
    early = write(tmp_path, "users.csv", {"user_id": [2, 2], "timestamp": [0.5, None]})
    found = lines(capsys, model, early, "-n", 30)
    first = {line["item_id"] for line in found[:30]}
    assert len(found) == 30 + 30 - len(own_items(model, 2))
    assert own_items(model, 2) <= first  # nothing was seen yet
    assert list(found[0]) == ["user_id", "timestamp", "rank", "item_id", "title", "probability"]


def test_candidates_and_items_bound_the_choice(
    capsys, folder: Path, model: Path, tmp_path: Path
) -> None:
    few = write(tmp_path, "few.csv", {"item_id": [1, 4, 9, 4]})
    user = ["--user-id", 2, "--include-seen"]
    found = lines(capsys, model, *user, "--candidates", few)
    assert sorted(line["item_id"] for line in found) == ["1", "4", "9"]
    items = (folder / "items.csv").read_text()
    header, *rest = items.splitlines()
    pictures = [line.replace("pictures/", f"{folder}/pictures/") for line in rest]
    new = pictures[0].split(",", 1)
    longer = tmp_path / "items.csv"
    longer.write_text("\n".join([header, *pictures, f"500,{new[1]}"]) + "\n")
    found = lines(capsys, model, *user, "--items", longer, "-n", 99)
    assert len(found) == len(rest) + 1
    assert "500" in {line["item_id"] for line in found}


def test_strangers_are_told_of(capsys, folder: Path, model: Path, tmp_path: Path) -> None:
    code, out, err = run(capsys, "recommend", model, "--user-id", 4242, "-n", 3)
    assert code == 0
    assert len(out.splitlines()) == 4
    assert "1 user is not in the log (4242)" in err
    code, out, err = run(capsys, "recommend", model, "--user-id", "0042")
    assert (code, out) == (1, "")
    for part in ("--user-id", "'0042'", "integers"):
        assert part in err


def test_wrong_requests_say_why(capsys, folder: Path, model: Path, tmp_path: Path) -> None:
    users = write(tmp_path, "users.csv", {"user_id": [7]})
    for arguments, code, part in [
        ([users, "--user-id", 7], 2, "not allowed"),
        (["-n", 0], 2, "-n"),
        ([write(tmp_path, "who.csv", {"who": [7]})], 1, "'user_id'"),
        ([users, "--candidates", users], 1, "'item_id'"),
        (["--candidates", "absent.csv"], 1, "absent.csv"),
        ([users, "--out", users], 2, "the same file"),
        (["-", "--log", "-"], 2, "standard input"),
    ]:
        found, out, err = run(capsys, "recommend", model, *arguments)
        assert (found, out) == (code, ""), arguments
        assert part in err


def test_context_comes_with_the_users(capsys, tmp_path: Path) -> None:
    log = {"user_id": [1, 1, 2, 2], "item_id": ["a", "b", "b", "c"], "clicked": [0, 1, 1, 0]}
    path = write(tmp_path, "log.csv", log | {"hour": [1, 2, 3, 4]})
    model = tmp_path / "m.skmars"
    fit = ["fit", path, "--base", "--context", "hour", "--out", model, *FAST_BASE]
    assert run(capsys, *fit)[0] == 0
    code, _, err = run(capsys, "recommend", model, "--user-id", 1)
    assert code == 1
    assert "USERS" in err
    assert "--with hour=" in err
    found = lines(capsys, model, "--user-id", 1, "--with", "hour=9")
    users = write(tmp_path, "users.csv", {"user_id": [1], "hour": [9]})
    assert lines(capsys, model, users) == found
    assert len(lines(capsys, model, "--with", "hour=9")) == 4
    for options, code, part in [
        (["--user-id", 1, "--with", "hour=late"], 1, "'late' in row 0"),
        (["--user-id", 1, "--with", "hour=9", "--with", "day=2"], 1, "--with day"),
        (["--user-id", 1, "--with", "hour"], 2, "COLUMN=VALUE"),
        ([users, "--with", "hour=9"], 2, "--with"),
    ]:
        found_code, out, err = run(capsys, "recommend", model, *options)
        assert (found_code, out) == (code, "")
        assert part in err


def test_items_may_be_named_by_their_titles(capsys, tmp_path: Path) -> None:
    log = {"rank_of": [1, 1, 2, 2], "title": ["Up", "Heat", "Heat", "Big"], "clicked": [0, 1, 1, 0]}
    items = write(tmp_path, "items.csv", {"title": ["Up", "Heat", "Big"]})
    names = ["--user", "rank_of", "--item", "title", "--items", items]
    fit = ["fit", write(tmp_path, "log.csv", log), "--base", *names, *FAST_BASE]
    assert run(capsys, *fit, "--out", tmp_path / "m.skmars")[0] == 0
    found = lines(capsys, tmp_path / "m.skmars", "--user-id", 1)
    assert {line["title"] for line in found} == {"Up", "Big"}
    assert run(capsys, *fit, "--user", "rank", "--out", tmp_path / "n.skmars")[0] == 2
