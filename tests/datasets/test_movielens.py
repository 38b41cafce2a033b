"""MovieLens-1M in both forms: small made-up files, and the real ones where they are."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from skmars import Impressions, leave_last_out
from skmars.datasets import _movielens, fetch_movielens_1m, load_movielens_1m

RATINGS = """\
1::10::5::100
1::20::3::300
2::10::4::250
2::30::1::50
1::30::4::200
3::10::2::400
3::40::5::400
3::20::5::400
"""
MOVIES = """\
10::Amélie (2001)::Comedy|Romance
20::Se7en (1995)::Crime
30::Heat (1995)::Action
40::Once (1999)::Drama
50::Never Rated (1999)::Drama
"""
USERS = "1::F::1::10::48067\n2::M::56::16::70072\n3::M::25::0::55117\n"
FRAMES = ["pandas", "polars", "pyarrow"]


@pytest.fixture
def dat(tmp_path):
    for name, text in zip(_movielens.DAT, (RATINGS, MOVIES, USERS)):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    return tmp_path


@pytest.fixture
def parquet(tmp_path):
    pd.DataFrame(
        {
            "user_id": [1, 1, 1, 2, 2],
            "movie_id": [30, 10, 20, 10, 30],
            "rating": [4, 5, 3, 4, 1],
            "position": [1, 0, 2, 1, 0],
            # Reconstructed times need not agree with the order, and may be missing.
            "timestamp": pd.array([90, 100, None, None, 50], dtype="Int64"),
        }
    ).to_parquet(tmp_path / "interactions.parquet")
    pd.DataFrame(
        {
            "movie_id": [10, 20, 30],
            "title": ["Amélie (2001)", "Se7en (1995)", "Heat (1995)"],
            "genres": ["Comedy, Romance", "Crime", "Action"],
            "plot": ["A waitress helps.", None, "A thief retires."],
            "poster": ["posters/10.jpg", None, "posters/30.jpg"],
        }
    ).to_parquet(tmp_path / "items.parquet")
    pd.DataFrame(
        {"user_id": [1, 2], "gender": ["F", "M"], "age": [1, 56], "occupation": [10, 16]}
    ).to_parquet(tmp_path / "users.parquet")
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters" / "10.jpg").write_bytes(b"a picture")
    return tmp_path


def as_pandas(log):
    return log if isinstance(log, pd.DataFrame) else log.to_pandas()


@pytest.mark.parametrize("frame", FRAMES)
def test_files_of_the_publisher(dat, frame):
    catalog, log = load_movielens_1m(dat, frame=frame, min_ratings=1)
    assert type(log).__module__.startswith(frame)
    log = as_pandas(log)
    assert list(log) == [
        *("user_id", "item_id", "rating", "liked", "position", "timestamp"),
        *("gender", "age", "occupation"),
    ]
    # By user and time; equal times in the order of the file.
    assert log.user_id.tolist() == [1, 1, 1, 2, 2, 3, 3, 3]
    assert log.item_id.tolist() == [10, 30, 20, 30, 10, 10, 40, 20]
    assert log.timestamp.tolist() == [100, 200, 300, 50, 250, 400, 400, 400]
    assert log.position.tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert log.liked.tolist() == (log.rating >= 4).tolist()
    assert log.gender[0] == "F"
    assert log.age[3] == 56
    assert log.occupation[[0, 3, 5]].tolist() == ["K-12 student", "self-employed", "other"]
    assert catalog.ids.tolist() == [10, 20, 30, 40]
    assert catalog.content["title"][0] == "Amélie (2001)"
    assert catalog.content["text"][0] == "Amélie (2001)\nComedy, Romance"
    assert set(catalog.content) == {"title", "text"}
    assert catalog.attributes["genres"].to_list()[0] == ["Comedy", "Romance"]


def test_posters_next_to_the_files_of_the_publisher(dat):
    (dat / "posters").mkdir()
    (dat / "posters" / "20.jpg").write_bytes(b"a picture")
    catalog, _ = load_movielens_1m(dat, min_ratings=1)
    assert catalog.content["image"].tolist() == [None, str(dat / "posters" / "20.jpg"), None, None]


@pytest.mark.parametrize("frame", FRAMES)
def test_parquet_with_plots_and_posters(parquet, frame):
    catalog, log = load_movielens_1m(parquet, frame=frame, min_ratings=0)
    log = as_pandas(log)
    assert log.item_id.tolist() == [10, 30, 20, 30, 10]
    assert log.position.tolist() == [0, 1, 2, 0, 1]
    # 90 came after 100; what is missing stays missing, and then nothing is called `timestamp`.
    assert "timestamp" not in log
    np.testing.assert_array_equal(log.approximate_time, [100, 100, np.nan, 50, np.nan])
    assert catalog.content["text"].tolist() == [
        "Amélie (2001)\nComedy, Romance\nA waitress helps.",
        "Se7en (1995)\nCrime",
        "Heat (1995)\nAction\nA thief retires.",
    ]
    # One has no poster, and the file of another is not there.
    poster = str(parquet / "posters" / "10.jpg")
    assert catalog.content["image"].tolist() == [poster, None, None]


def test_parquet_with_all_times(parquet):
    file = parquet / "interactions.parquet"
    pd.read_parquet(file).assign(timestamp=[90, 100, 100, 60, 50]).to_parquet(file)
    _, log = load_movielens_1m(parquet, min_ratings=0)
    assert "approximate_time" not in log
    assert log.timestamp.tolist() == [100, 100, 100, 50, 60]


def test_with_missing_times_histories_follow_the_order(parquet):
    catalog, log = load_movielens_1m(parquet, min_ratings=0)
    for times in ({}, {"time": "approximate_time", "order": "position"}):
        X, _ = Impressions.from_log(log, catalog, label="liked", **times)
        histories = [catalog.ids[X.history.row(i)].tolist() for i in range(len(X))]
        assert histories == [[], [10], [10, 30], [], []]
        assert (X.time is None) == (not times)


@pytest.mark.parametrize("form", ["dat", "parquet"])
def test_becomes_impressions(form, request):
    catalog, log = load_movielens_1m(request.getfixturevalue(form), min_ratings=0)
    X, y = Impressions.from_log(log, catalog, label="liked", history="all", context=["occupation"])
    np.testing.assert_array_equal(y, log.liked)
    last = log.groupby("user_id").tail(1)
    np.testing.assert_array_equal(leave_last_out(X)[2], last.index)


def test_rarely_rated_movies_are_left_out(dat):
    catalog, log = load_movielens_1m(dat, min_ratings=2)
    assert catalog.ids.tolist() == [10, 20, 30]
    assert set(log.item_id) == {10, 20, 30}
    assert log.position.tolist() == [0, 1, 2, 0, 1, 0, 1]


def test_without_content(parquet):
    catalog, _ = load_movielens_1m(parquet, content=False, min_ratings=0)
    assert set(catalog.content) == {"title"}
    assert list(catalog.attributes) == ["genres"]


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ratings\.dat, .* or interactions\.parquet"):
        load_movielens_1m(tmp_path)
    with pytest.raises(FileNotFoundError, match="found no folder"):
        load_movielens_1m(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ratings.dat", "1::10::five::100\n", r"ratings\.dat should hold 4 integers a line"),
        ("ratings.dat", "1::10::5\n", r"ratings\.dat should hold 4 integers a line"),
        ("movies.dat", MOVIES + "60::Lost\n", r"movies\.dat .* line 6 has 2"),
        ("users.dat", "2::M::56::16::70072\n", "lacks user 1"),
    ],
)
def test_damaged_files_are_named(dat, name, text, message):
    (dat / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_movielens_1m(dat, min_ratings=1)


def test_bad_parameters(dat, monkeypatch):
    with pytest.raises(ValueError, match="frame must be one of 'pandas', .* got 'numpy'"):
        load_movielens_1m(dat, frame="numpy")
    with pytest.raises(ValueError, match="min_ratings must not be negative, got -1"):
        load_movielens_1m(dat, min_ratings=-1)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="pip install polars"):
        load_movielens_1m(dat, frame="polars")


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, text in zip(_movielens.DAT, (RATINGS, MOVIES, USERS)):
            target.writestr(f"ml-1m/{name}", text.encode("latin-1"))
    return file.getvalue()


def test_fetch(tmp_path, monkeypatch, serve):
    body = archive()
    monkeypatch.setattr(_movielens, "CHECKSUM", "md5:" + hashlib.md5(body).hexdigest())
    with serve({"ml-1m.zip": body}, n_failures=1, break_after=200) as server:
        monkeypatch.setattr(_movielens, "URL", server.url + "ml-1m.zip")
        catalog, log = fetch_movielens_1m(tmp_path, min_ratings=1)
        assert (len(catalog), len(log)) == (4, 8)
        fetch_movielens_1m(tmp_path, min_ratings=1)
        assert [wanted for _, wanted in server.requests] == [None, "bytes=200-"]


def test_fetch_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(_movielens, "URL", "http://127.0.0.1:9/ml-1m.zip")
    with pytest.raises(OSError, match=r"could not be downloaded") as caught:
        fetch_movielens_1m(tmp_path)
    assert str(tmp_path / "ml-1m.zip") in str(caught.value)
    with pytest.raises(OSError, match="download_if_missing=False"):
        fetch_movielens_1m(tmp_path, download_if_missing=False)
    (tmp_path / "ml-1m.zip").write_bytes(archive())
    with pytest.raises(OSError, match="expected c4d9eecfca2ab87c1945afe126590906"):
        fetch_movielens_1m(tmp_path)
    # The unpacked files, put there by hand, will do.
    for name, text in zip(_movielens.DAT, (RATINGS, MOVIES, USERS)):
        (tmp_path / "ml-1m" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "ml-1m" / name).write_bytes(text.encode("latin-1"))
    assert len(fetch_movielens_1m(tmp_path, min_ratings=1)[1]) == 8


def test_real_files(ml_1m):
    catalog, log = load_movielens_1m(ml_1m)
    assert len(log) == 999_611
    assert log.user_id.nunique() == 6_040
    assert len(catalog) == log.item_id.nunique() == 3_416
    assert log.liked.mean() == pytest.approx(0.575, abs=0.001)
    assert all(catalog.content["text"])
    assert sum(p is None for p in catalog.content["image"]) == 160
    assert len(catalog.attributes["genres"].categories) == 18
    assert (log.groupby("user_id").position.diff().dropna() == 1).all()
    known = log.dropna(subset="approximate_time")
    assert (known.groupby("user_id").approximate_time.diff().dropna() >= 0).all()
    # About a fifth of the times is missing, within the logs of users as well as at their end.
    assert log.approximate_time.isna().mean() == pytest.approx(0.19, abs=0.005)
