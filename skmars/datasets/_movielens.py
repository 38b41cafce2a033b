"""MovieLens-1M, as its publisher gives it or with plots and posters."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from skmars.data import ItemCatalog
from skmars.data._frames import Table, make_frame
from skmars.datasets import _download
from skmars.utils._ids import Lookup
from skmars.utils._values import as_objects

URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
CHECKSUM = "md5:c4d9eecfca2ab87c1945afe126590906"  # files.grouplens.org/.../ml-1m.zip.md5
FOLDER = "ml-1m"
DAT = ("ratings.dat", "movies.dat", "users.dat")
PARQUET = ("interactions.parquet", "items.parquet", "users.parquet")
MIN_LIKED = 4  # stars from which a rating counts as a click, as in the paper

# The README of the data set. Names instead of codes: a code would pass for a number.
OCCUPATIONS = (
    "other, academic/educator, artist, clerical/admin, college/grad student, customer service, "
    "doctor/health care, executive/managerial, farmer, homemaker, K-12 student, lawyer, "
    "programmer, retired, sales/marketing, scientist, self-employed, technician/engineer, "
    "tradesman/craftsman, unemployed, writer"
)


Columns = dict[str, NDArray[Any]]


def load_movielens_1m(
    path: str | os.PathLike[str],
    *,
    frame: str = "pandas",
    content: bool = True,
    min_ratings: int = 5,
) -> tuple[ItemCatalog, Any]:
    """Load MovieLens-1M from a folder.

    Reads the files of the publisher (`ratings.dat`, `movies.dat`, `users.dat`, unpacked from
    `ml-1m.zip`), or, where the folder has them, Parquet files that come with plots and posters
    (`interactions.parquet`, `items.parquet`, `users.parquet`).

    Parameters
    ----------
    path : str or path-like
        The folder.
    frame : {"pandas", "polars", "pyarrow"}, default="pandas"
        What the log is to be.
    content : bool, default=True
        Whether the catalogue gets `text` and `image`, or titles alone.
    min_ratings : int, default=5
        Movies with fewer ratings are left out, from the log and from the catalogue.

    Returns
    -------
    catalog : ItemCatalog
        `title`; `text`, that is title, genres and (where there is one) plot, one a line; `image`,
        the path of the poster, None where a movie has none. Without any poster in the folder
        there is no `image`. Posters are found as ``posters/<movie id>.jpg`` next to the
        publisher's files. The attribute `genres` lists those of each movie.
    log : pandas.DataFrame, polars.DataFrame or pyarrow.Table
        One row a rating, user by user in the order of time: `user_id`, `item_id`, `rating` (1
        to 5), `liked` (rating >= 4, the label of the paper), `position` (0, 1, ... within the
        user), `timestamp` (seconds) or, where times are missing, `approximate_time` instead (see
        Notes), `gender`, `age` (lower end of the age group), `occupation` (name).

    Raises
    ------
    FileNotFoundError, ImportError
        If the folder has neither set of files, or the library that `frame` names is not installed.
    ValueError
        If a parameter is out of its range or a file is not what its name says.

    See Also
    --------
    fetch_movielens_1m : Download it first.

    Notes
    -----
    In the Parquet files the order of a user's ratings (`position`) is exact, while times were
    reconstructed and are partly missing. The log then has no `timestamp`, so that
    ``Impressions.from_log(log, catalog, label="liked")`` goes by the order of the log. The known
    times are in `approximate_time`, made to agree with the order (none is earlier than the one
    before it of the same user), and NaN where missing. Pass ``time="approximate_time",
    order="position"`` where they are to bound what users may borrow from one another.

    MovieLens is for research use; cite Harper and Konstan [1]_.

    References
    ----------
    .. [1] F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM
       Transactions on Interactive Intelligent Systems 5, 2015.

    Examples
    --------
    >>> from skmars import Impressions, load_movielens_1m
    >>> catalog, log = load_movielens_1m("ml-1m")  # doctest: +SKIP
    >>> X, y = Impressions.from_log(log, catalog, label="liked", history="all")  # doctest: +SKIP
    """
    if min_ratings < 0:
        raise ValueError(f"min_ratings must not be negative, got {min_ratings!r}.")
    make_frame({}, frame)  # a missing library is found before the files are read
    folder = Path(path)
    if all((folder / name).is_file() for name in PARQUET):
        ratings, movies, users = _read_parquet(folder, frame)
    elif all((folder / name).is_file() for name in DAT):
        ratings, movies, users = _read_dat(folder)
    else:
        found = sorted(p.name for p in folder.iterdir())[:5] if folder.is_dir() else "no folder"
        raise FileNotFoundError(
            f"{folder} should hold {', '.join(DAT)} (unpack ml-1m.zip from "
            f"https://grouplens.org/datasets/movielens/1m/) or {', '.join(PARQUET)}; found {found}."
        )
    ids, code, count = np.unique(ratings["movie_id"], return_inverse=True, return_counts=True)
    often = count >= min_ratings
    ratings = {name: column[often[code]] for name, column in ratings.items()}
    return _catalog(ids[often], movies, folder, content), _log(ratings, users, frame)


def fetch_movielens_1m(
    data_home: str | os.PathLike[str] | None = None,
    *,
    download_if_missing: bool = True,
    frame: str = "pandas",
    content: bool = True,
    min_ratings: int = 5,
) -> tuple[ItemCatalog, Any]:
    """Load MovieLens-1M, downloading it first where needed (6 MB).

    Parameters
    ----------
    data_home : str or path-like, default=None
        Where to keep data sets; see `get_data_home`.
    download_if_missing : bool, default=True
        If False, raise an OSError where the data is not there yet.
    frame, content, min_ratings
        As in `load_movielens_1m`.

    Returns
    -------
    catalog, log
        See `load_movielens_1m`.

    Raises
    ------
    OSError
        If the download fails or its checksum is wrong; the message says which file to put
        where by hand. An interrupted download continues at the next call.
    """
    home = _download.get_data_home(data_home)
    folder = home / FOLDER
    make_frame({}, frame)
    if not all((folder / name).is_file() for name in DAT):
        archive = home / "ml-1m.zip"
        _download.fetch(URL, archive, checksum=CHECKSUM, download_if_missing=download_if_missing)
        _unpack(archive, folder)
    return load_movielens_1m(folder, frame=frame, content=content, min_ratings=min_ratings)


def _unpack(archive: Path, folder: Path) -> None:
    """Write each file under another name first: whatever interrupts, none is half there."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as source:
        for name in DAT:
            part = folder / f"{name}.part"
            part.write_bytes(source.read(f"ml-1m/{name}"))
            part.replace(folder / name)


def _catalog(ids: NDArray[np.int64], movies: Columns, folder: Path, content: bool) -> ItemCatalog:
    row = Lookup(movies["movie_id"], "the ratings")(ids, "the items")
    title, genres, plot, poster = (
        as_objects([*movies[name], None])[row]  # row -1, of a movie that is not there, is None
        for name in ("title", "genres", "plot", "poster")
    )
    columns = {"title": title}
    if content:
        parts = zip(title, genres, plot)
        columns["text"] = as_objects("\n".join(filter(None, part)) or None for part in parts)
        paths = [os.path.abspath(folder / p) if p else None for p in poster]
        image = as_objects(p if p and os.path.isfile(p) else None for p in paths)
        if image.any():
            columns["image"] = image
    lists = [g.split(", ") if g else None for g in genres]
    return ItemCatalog(ids, content=columns, attributes={"genres": lists})


def _log(ratings: Columns, users: Columns, frame: str) -> Any:
    rows = np.lexsort((ratings["position"], ratings["user_id"]))
    user, item, stars, seconds = (
        ratings[name][rows] for name in ("user_id", "movie_id", "rating", "timestamp")
    )
    _, first, code = np.unique(user, return_index=True, return_inverse=True)
    seconds = _increasing(seconds, code)
    who = Lookup(users["user_id"], "the ratings")(user, "the users")
    if (who < 0).any():
        raise ValueError(f"The file of users lacks user {user[who < 0][0]}, who has ratings.")
    return make_frame(
        {
            "user_id": user,
            "item_id": item,
            "rating": stars,
            "liked": stars >= MIN_LIKED,
            "position": np.arange(len(user)) - first[code],
            "approximate_time" if np.isnan(seconds).any() else "timestamp": seconds,
            "gender": users["gender"][who],
            "age": users["age"][who],
            "occupation": as_objects(OCCUPATIONS.split(", "))[users["occupation"][who]],
        },
        frame,
    )


def _increasing(seconds: NDArray[np.float64], user: NDArray[np.int64]) -> NDArray[np.float64]:
    """Raise each known time to the latest one before it of the same user."""
    missing = np.isnan(seconds)
    if missing.all():
        return seconds
    # Users are moved so far apart that one running maximum serves all of them.
    apart = user * (np.nanmax(seconds) - np.nanmin(seconds) + 1.0)
    latest = np.maximum.accumulate(np.where(missing, -np.inf, seconds + apart))
    return np.where(missing, np.nan, latest - apart)


def _read_dat(folder: Path) -> tuple[Columns, Columns, Columns]:
    """Return ratings, movies and users, with the columns of the Parquet files."""
    user, item, rating, seconds = _integers(folder / "ratings.dat", 4).T
    movie, title, genres = _fields(folder / "movies.dat", 3).T
    person, gender, age, occupation, _ = _fields(folder / "users.dat", 5).T
    return (
        {
            "user_id": user,
            "movie_id": item,
            "rating": rating,
            "position": seconds,
            "timestamp": seconds.astype(np.float64),
        },
        {
            "movie_id": movie.astype(np.int64),
            "title": title,
            "genres": as_objects(g.replace("|", ", ") for g in genres),
            "plot": np.full(len(movie), None, dtype=object),
            "poster": as_objects(f"posters/{int(m)}.jpg" for m in movie),
        },
        {
            "user_id": person.astype(np.int64),
            "gender": gender,
            "age": age.astype(np.int64),
            "occupation": occupation.astype(np.int64),
        },
    )


def _read_parquet(folder: Path, frame: str) -> tuple[Columns, Columns, Columns]:
    backend: Any = frame
    log, movies, users = (
        Table(nw.to_native(nw.read_parquet(str(folder / name), backend=backend)), name)
        for name in PARQUET
    )
    integers, texts = ("user_id", "age", "occupation"), ("title", "genres", "plot", "poster")
    ratings = {name: log.ids(name) for name in ("user_id", "movie_id", "rating", "position")}
    return (
        {**ratings, "timestamp": log.seconds("timestamp")},
        {"movie_id": movies.ids("movie_id"), **{name: movies.objects(name) for name in texts}},
        {"gender": users.objects("gender"), **{name: users.ids(name) for name in integers}},
    )


def _integers(path: Path, n_columns: int) -> NDArray[np.int64]:
    """Read `::` separated integers (a million rows: NumPy's reader, not a loop)."""
    try:
        table = np.loadtxt(
            io.BytesIO(path.read_bytes().replace(b"::", b",")),
            delimiter=",",
            dtype=np.int64,
            ndmin=2,
        )
        if table.shape[1] != n_columns:
            raise ValueError(f"{table.shape[1]} fields a line")
    except ValueError as error:
        raise ValueError(
            f"{path} should hold {n_columns} integers a line, separated by '::': {error}."
        ) from error
    return table


def _fields(path: Path, n_columns: int) -> NDArray[np.object_]:
    """Read `::` separated fields, in the publisher's encoding."""
    lines = path.read_text(encoding="latin-1").splitlines()
    rows = [line.split("::") for line in lines if line]
    for number, row in enumerate(rows, start=1):
        if len(row) != n_columns:
            raise ValueError(
                f"{path} should hold {n_columns} fields a line, separated by '::'; line {number} "
                f"has {len(row)}."
            )
    return np.array(rows, dtype=object).reshape(-1, n_columns)
