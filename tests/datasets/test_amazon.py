"""The Amazon reviews of 2014: both dialects of their lines, and every way to be broken."""

from __future__ import annotations

import gzip
import hashlib
import json
import warnings
from functools import partial

import pytest

from skmars import Impressions, leave_last_out
from skmars.datasets import _amazon, fetch_amazon_reviews, load_amazon_reviews

DAY = 86_400
REVIEWS = [
    {"reviewerID": "U1", "asin": "B2", "overall": 5.0, "unixReviewTime": 3 * DAY, "summary": "!"},
    {"reviewerID": "U1", "asin": "B1", "overall": 4.0, "unixReviewTime": 1 * DAY},
    {"reviewerID": "U2", "asin": "B1", "overall": 1.0, "unixReviewTime": 2 * DAY},
    {"reviewerID": "U1", "asin": "0003", "overall": 3.0, "unixReviewTime": 1 * DAY},
    {"reviewerID": "U2", "asin": "B4", "overall": 2.0, "unixReviewTime": 2 * DAY},
]
META = [
    {
        "asin": "B1",
        "title": "Teddy &amp; Co",
        "description": "It's soft.",
        "imUrl": "http://h/x/T1.jpg",
    },
    {"asin": "B2", "title": "Ball", "imUrl": "http://h/x/T2.jpg", "price": 3.5},
    {
        "asin": "0003",
        "description": ["One.", "Two."],
        "salesRank": {"Toys": 7},
        "imUrl": "http://[no/such",
    },
    {"asin": "B9", "title": "Nobody reviewed this"},
]
BROKEN = ["{'asin': 'B1', 'title':", "[1, 2]", "{'title': 'no asin'}", "not a line at all"]


def write(path, lines):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "reviews_Toys_5.json.gz", map(json.dumps, REVIEWS))
    write(tmp_path / "meta_Toys.json.gz", map(repr, META))  # Python literals, as published
    return tmp_path


@pytest.mark.parametrize("frame", ["pandas", "polars", "pyarrow"])
def test_log(folder, frame):
    _, log = load_amazon_reviews(folder, frame=frame)
    assert type(log).__module__.startswith(frame)
    log = log if frame == "pandas" else log.to_pandas()
    assert list(log) == ["user_id", "item_id", "rating", "liked", "position", "timestamp"]
    # By user and day; reviews of one day in the order of the file.
    assert log.user_id.tolist() == ["U1", "U1", "U1", "U2", "U2"]
    assert log.item_id.tolist() == ["B1", "0003", "B2", "B1", "B4"]
    assert log.position.tolist() == [0, 1, 2, 0, 1]
    assert log.timestamp.tolist() == [DAY, DAY, 3 * DAY, 2 * DAY, 2 * DAY]
    assert log.liked.tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("dialect", [repr, json.dumps])
def test_catalogue(folder, dialect):
    write(folder / "meta_Toys.json.gz", map(dialect, META))
    catalog, _ = load_amazon_reviews(folder)
    assert catalog.ids.tolist() == ["0003", "B1", "B2", "B4"]
    assert catalog.content["title"].tolist() == [None, "Teddy & Co", "Ball", None]
    assert catalog.content["text"].tolist() == [
        *("One.\nTwo.", "Teddy & Co\nIt's soft.", "Ball", None),
    ]
    assert "image" not in catalog.content


def test_pictures_are_taken_from_a_folder(folder):
    images = folder / "images"
    images.mkdir()
    for name in ("T1.jpg", "B4.jpg"):
        (images / name).write_bytes(b"a picture")
    catalog, _ = load_amazon_reviews(folder, images=images)
    assert catalog.content["image"].tolist() == [
        *(None, str(images / "T1.jpg"), None, str(images / "B4.jpg")),
    ]
    with pytest.raises(FileNotFoundError, match="images: .* is not a folder"):
        load_amazon_reviews(folder, images=folder / "pictures")


def test_becomes_impressions(folder):
    catalog, log = load_amazon_reviews(folder)
    X, y = Impressions.from_log(log, catalog, label="liked", history="all")
    assert y.tolist() == log.liked.astype(int).tolist()
    assert [len(rows) for rows in leave_last_out(X)] == [2, 1, 2]


def test_broken_lines_are_counted_in_one_warning_and_never_fatal(folder):
    expected = load_amazon_reviews(folder)
    bad_reviews = [
        *("{", "[]", "{}", '{"reviewerID": "U1", "asin": "B1"}'),
        '{"reviewerID": 3, "asin": "B1", "overall": 5, "unixReviewTime": 1}',
        '{"reviewerID": "U1", "asin": "B1", "overall": NaN, "unixReviewTime": 1}',
        '{"reviewerID": "U1", "asin": "B1", "overall": [5], "unixReviewTime": 1}',
    ]
    write(folder / "reviews_Toys_5.json.gz", [*bad_reviews, *map(json.dumps, REVIEWS), "", " "])
    write(folder / "meta_Toys.json.gz", [*BROKEN, *map(repr, META)])
    with pytest.warns(UserWarning, match="left out") as caught:
        catalog, log = load_amazon_reviews(folder)
    assert len(caught) == 1
    assert "7 in reviews_Toys_5.json.gz, 4 in meta_Toys.json.gz" in str(caught[0].message)
    assert log.equals(expected[1])
    assert catalog.fingerprint == expected[0].fingerprint


def test_a_file_whose_end_is_missing(folder):
    many = [{**r, "reviewerID": f"U{i}"} for i in range(500) for r in REVIEWS]
    write(folder / "reviews_Toys_5.json.gz", map(json.dumps, many))
    whole = (folder / "reviews_Toys_5.json.gz").read_bytes()
    (folder / "reviews_Toys_5.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(
        UserWarning, match=r"1 in reviews_Toys_5\.json\.gz.* download the file again"
    ):
        _, log = load_amazon_reviews(folder)
    assert 100 < len(log) < len(many)


def test_good_files_do_not_warn(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_amazon_reviews(folder)


def test_without_metadata(folder):
    (folder / "meta_Toys.json.gz").unlink()
    catalog, log = load_amazon_reviews(folder, content=False)
    assert (len(catalog), len(log), dict(catalog.content)) == (4, 5, {})
    with pytest.raises(FileNotFoundError, match=r"meta_Toys\.json\.gz is not there.*content=False"):
        load_amazon_reviews(folder)


def test_category(folder):
    with pytest.raises(FileNotFoundError, match=r"reviews_Beauty_5\.json\.gz is not there"):
        load_amazon_reviews(folder, category="Beauty")
    with pytest.raises(ValueError, match="category must be as in the names of the files"):
        load_amazon_reviews(folder, category="../Toys")
    write(folder / "reviews_Beauty_5.json.gz", map(json.dumps, REVIEWS))
    with pytest.raises(ValueError, match=r"several categories \(Beauty, Toys\); pass category="):
        load_amazon_reviews(folder)
    assert len(load_amazon_reviews(folder, category="Beauty", content=False)[1]) == 5
    with pytest.raises(FileNotFoundError, match="has no file reviews_<category>_5"):
        load_amazon_reviews(folder / "nowhere")


def test_the_k_core_of_the_reviews(folder):
    # Of B1 alone there are two reviews, of two users; U1 and U2 have more with others.
    more = [{"reviewerID": "U2", "asin": "B2", "overall": 3.0, "unixReviewTime": 9 * DAY}]
    write(folder / "reviews_Toys_5.json.gz", map(json.dumps, REVIEWS + more))
    catalog, log = load_amazon_reviews(folder, k_core=2)
    assert catalog.ids.tolist() == ["B1", "B2"]
    assert catalog.content["title"].tolist() == ["Teddy & Co", "Ball"]
    assert log.item_id.tolist() == ["B1", "B2", "B1", "B2"]
    assert log.position.tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"nothing remains of log.*3 events"):
        load_amazon_reviews(folder, k_core=3)
    for fetch in (load_amazon_reviews, partial(fetch_amazon_reviews, "Toys")):
        with pytest.raises(ValueError, match="The 'k_core' parameter of load_amazon_reviews"):
            fetch(folder, k_core=0)


def test_nothing_readable(folder):
    write(folder / "reviews_Toys_5.json.gz", BROKEN)
    with pytest.raises(ValueError, match="no line that can be read: each should be a JSON object"):
        load_amazon_reviews(folder)
    (folder / "reviews_Toys_5.json.gz").write_bytes(b"this is not gzip")
    with pytest.raises(ValueError, match="no line that can be read"):
        load_amazon_reviews(folder)


def test_fetch(folder, tmp_path_factory, monkeypatch, serve):
    home = tmp_path_factory.mktemp("home")
    files = {name: (folder / name).read_bytes() for name in _amazon._names("Toys", content=True)}
    checksums = {n: "sha256:" + hashlib.sha256(b).hexdigest() for n, b in files.items()}
    with serve(files, n_failures=1, break_after=50) as server:
        monkeypatch.setattr(_amazon, "URL", server.url)
        catalog, log = fetch_amazon_reviews("Toys", home, checksums=checksums)
        assert (len(catalog), len(log)) == (4, 5)
        assert len(server.requests) == 3
        fetch_amazon_reviews("Toys", home)
        assert len(server.requests) == 3
    assert sorted(p.name for p in (home / "amazon-2014").iterdir()) == sorted(files)


def test_fetch_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(_amazon, "URL", "http://127.0.0.1:9/")
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        fetch_amazon_reviews("Toys", tmp_path)
    assert str(tmp_path / "amazon-2014" / "reviews_Toys_5.json.gz") in str(caught.value)
    with pytest.raises(ValueError, match="checksums names 'toys'; the files fetched are reviews_T"):
        fetch_amazon_reviews("Toys", tmp_path, checksums={"toys": "md5:0"})
    with pytest.raises(OSError, match="download_if_missing=False"):
        fetch_amazon_reviews("Toys", tmp_path, download_if_missing=False)
