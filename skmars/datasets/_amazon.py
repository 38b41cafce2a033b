"""The Amazon reviews of 2014: 5-core review files and product metadata."""

from __future__ import annotations

import ast
import gzip
import html
import json
import math
import os
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skmars.data import ItemCatalog
from skmars.data._frames import make_frame
from skmars.data._k_core import COUNT, core_rows
from skmars.datasets import _download
from skmars.utils._ids import factorize
from skmars.utils._parameters import check_number
from skmars.utils._values import as_objects

T = TypeVar("T")

URL = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
MIN_LIKED = 4  # stars from which a review counts as a click, as in the paper
ASIN = re.compile(rb"""['"]asin['"]\s*:\s*['"](\w+)['"]""")


def load_amazon_reviews(
    path: str | os.PathLike[str],
    *,
    category: str | None = None,
    frame: str = "pandas",
    content: bool = True,
    images: str | os.PathLike[str] | None = None,
    k_core: int | None = None,
) -> tuple[ItemCatalog, Any]:
    """Load one category of the Amazon reviews of 2014 from a folder.

    Reads ``reviews_<category>_5.json.gz`` (the 5-core) and ``meta_<category>.json.gz``.
    Lines that can't be read are left out, and counted in one warning.

    Parameters
    ----------
    path : str or path-like
        The folder.
    category : str, default=None
        As in the names of the files: ``"Beauty"``, ``"Toys_and_Games"``. None takes the only
        one there is.
    frame : {"pandas", "polars", "pyarrow"}, default="pandas"
        What the log is to be.
    content : bool, default=True
        Whether to read the metadata. Without it the catalogue holds ids alone.
    images : str or path-like, default=None
        A folder with pictures of the products: files named as in the product's `imUrl`, or
        ``<asin>.jpg``. Pictures are never downloaded.
    k_core : int, default=None
        Leave out users and products of fewer reviews than this, again and again until all have so
        many, see :func:`skmars.data.k_core`. The files are 5-cores by themselves. The paper's
        Beauty is the 7-core: 4,322 users, 2,423 products, 60,276 reviews.

    Returns
    -------
    catalog : ItemCatalog
        The products that have reviews: `title`; `text`, that is title and description; with
        `images` also `image`, the path of the picture. None where a product has no such thing.
    log : pandas.DataFrame, polars.DataFrame or pyarrow.Table
        One row a review, user by user in the order of time: `user_id`, `item_id`, `rating` (1
        to 5), `liked` (rating >= 4, the label of the paper), `position` (0, 1, ... within the
        user; reviews of one day in the order of the file), `timestamp` (seconds, whole days, so
        that reviews of one day are in none of each other's histories).

    Raises
    ------
    FileNotFoundError, ImportError
        If a file is not there, or the library that `frame` names is not installed.
    ValueError
        If `category` is None and there are several, no line of the reviews can be read, or
        `k_core` is no positive integer, or so large that nothing remains.

    See Also
    --------
    fetch_amazon_reviews : Download it first.

    References
    ----------
    .. [1] J. McAuley, C. Targett, Q. Shi and A. van den Hengel, "Image-based recommendations on
       styles and substitutes", SIGIR 2015.

    Examples
    --------
    >>> from skmars import load_amazon_reviews
    >>> catalog, log = load_amazon_reviews("amazon", category="Beauty")  # doctest: +SKIP
    """
    _check_options(frame, k_core)
    folder = Path(path)
    files = [folder / name for name in _names(category or _only_category(folder), content)]
    for file in files:
        if not file.is_file():
            hint = " (or pass content=False)" if file != files[0] else ""
            raise FileNotFoundError(
                f"{file} is not there. Download {file.name} from {URL}{file.name} and put it into "
                f"{folder}{hint}."
            )
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"images: {images} is not a folder.")

    unreadable: Counter[str] = Counter()
    reviews = list(_records(files[0], _review, unreadable))
    if not reviews:
        raise ValueError(
            f"{files[0]} has no line that can be read: each should be a JSON object with "
            "reviewerID, asin, overall and unixReviewTime."
        )
    users, items, ratings, seconds = zip(*reviews)
    user, item, rating = as_objects(users), as_objects(items), np.array(ratings)
    second = np.array(seconds)
    if k_core is not None:
        rows = core_rows(factorize(user)[1], factorize(item)[1], k_core)
        user, item, rating, second = user[rows], item[rows], rating[rows], second[rows]
    ids, _ = factorize(item)
    columns = {}
    if content:
        read = partial(_product, wanted=set(ids))
        products = (p for p in _records(files[1], read, unreadable) if p is not None)
        columns = _content(ids, dict(products), images)
    if unreadable:
        shown = ", ".join(f"{count} in {name}" for name, count in unreadable.items())
        warnings.warn(
            f"Lines that can't be read were left out: {shown}. If there are many, download the "
            "file again.",
            UserWarning,
            stacklevel=2,
        )

    _, code = factorize(user)
    order = np.lexsort((second, code))
    code, rating = code[order], rating[order]
    log = make_frame(
        {
            "user_id": user[order],
            "item_id": item[order],
            "rating": rating,
            "liked": rating >= MIN_LIKED,
            "position": np.arange(len(code)) - np.searchsorted(code, code),
            "timestamp": second[order],
        },
        frame,
    )
    return ItemCatalog(ids, content=columns), log


def fetch_amazon_reviews(
    category: str,
    data_home: str | os.PathLike[str] | None = None,
    *,
    checksums: Mapping[str, str] | None = None,
    download_if_missing: bool = True,
    frame: str = "pandas",
    content: bool = True,
    images: str | os.PathLike[str] | None = None,
    k_core: int | None = None,
) -> tuple[ItemCatalog, Any]:
    """Load one category of the Amazon reviews of 2014, downloading it first where needed.

    Parameters
    ----------
    category, frame, content, images, k_core
        See `load_amazon_reviews`.
    data_home, download_if_missing : default=None, True
        See `fetch_movielens_1m`.
    checksums : mapping of str to str, default=None
        File name to ``"md5:..."`` or ``"sha256:..."``. The publisher gives none; where you know
        them, downloads are checked. (Their length always is.)

    Returns
    -------
    catalog, log
        See `load_amazon_reviews`.

    Raises
    ------
    OSError, ValueError
        As in `fetch_movielens_1m`, or if `checksums` names a file that is not fetched.
    """
    names = _names(category, content)
    checksums = checksums or {}
    for name in checksums:
        if name not in names:
            raise ValueError(f"checksums names {name!r}; the files fetched are {', '.join(names)}.")
    _check_options(frame, k_core)
    folder = _download.get_data_home(data_home) / "amazon-2014"
    for name in names:
        _download.fetch(
            URL + name,
            folder / name,
            checksum=checksums.get(name),
            download_if_missing=download_if_missing,
        )
    return load_amazon_reviews(
        folder, category=category, frame=frame, content=content, images=images, k_core=k_core
    )


def _check_options(frame: str, k_core: int | None) -> None:
    """Find a missing library and a wrong number before files are fetched or read."""
    make_frame({}, frame)
    if k_core is not None:
        check_number(k_core, COUNT, "k_core", "load_amazon_reviews")


def _names(category: str, content: bool) -> list[str]:
    if not re.fullmatch(r"\w+", category):
        raise ValueError(
            f"category must be as in the names of the files ('Toys_and_Games'), got {category!r}."
        )
    return [f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz"][: 2 if content else 1]


def _only_category(folder: Path) -> str:
    found = sorted(
        p.name.removeprefix("reviews_").removesuffix("_5.json.gz")
        for p in folder.glob("reviews_*_5.json.gz")
    )
    if len(found) == 1:
        return found[0]
    if not found:
        raise FileNotFoundError(
            f"{folder} has no file reviews_<category>_5.json.gz; download one from {URL}."
        )
    raise ValueError(f"{folder} has several categories ({', '.join(found)}); pass category=.")


def _records(path: Path, read: Callable[[bytes], T], unreadable: Counter[str]) -> Iterator[T]:
    """Yield what `read` makes of each line, and count those on which it fails.

    Where the end of the file is missing, that counts as one line.
    """
    with gzip.open(path, "rb") as file:
        try:
            for line in filter(bytes.strip, file):
                try:
                    record = read(line)
                except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
                    unreadable[path.name] += 1
                else:
                    yield record
        except (EOFError, zlib.error, gzip.BadGzipFile):
            unreadable[path.name] += 1


def _parse(line: bytes) -> dict[str, Any]:
    """Read a JSON object or, as in the files of metadata, a Python dict literal."""
    try:
        value = json.loads(line)
    except ValueError:
        value = ast.literal_eval(line.decode("utf-8").strip())
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _review(line: bytes) -> tuple[str, str, float, float]:
    record = _parse(line)
    user, item = record["reviewerID"], record["asin"]
    rating, seconds = float(record["overall"]), float(record["unixReviewTime"])
    if not (isinstance(user, str) and isinstance(item, str) and user and item):
        raise ValueError("ids are not strings")
    if not (math.isfinite(rating) and math.isfinite(seconds)):
        raise ValueError("stars or time are not numbers")
    return user, item, rating, seconds


def _product(line: bytes, wanted: set[str]) -> tuple[str, list[str | None]] | None:
    """Return asin and title, description and URL of the picture; None if it is not wanted."""
    # Most products have no reviews in the 5-core; reading a dict literal is slow.
    asin = ASIN.search(line)
    if asin is not None and asin.group(1).decode() not in wanted:
        return None
    record = _parse(line)
    return str(record["asin"]), [_text(record.get(n)) for n in ("title", "description", "imUrl")]


def _text(value: Any) -> str | None:
    """Plain text of a field, in which the files leave HTML entities."""
    if isinstance(value, list):
        value = "\n".join(v for v in value if isinstance(v, str))
    return html.unescape(value).strip() or None if isinstance(value, str) else None


def _content(
    ids: NDArray[np.object_],
    products: Mapping[str, Sequence[str | None]],
    images: str | os.PathLike[str] | None,
) -> dict[str, NDArray[np.object_]]:
    title, description, url = zip(*(products.get(asin, (None,) * 3) for asin in ids))
    texts = ("\n".join(filter(None, parts)) or None for parts in zip(title, description))
    columns = {"title": as_objects(title), "text": as_objects(texts)}
    if images is not None:
        there = {entry.name: os.path.abspath(entry) for entry in os.scandir(images)}
        names = (re.split("[?#;]", u or "")[0].rpartition("/")[2] for u in url)
        columns["image"] = as_objects(
            there.get(name) or there.get(f"{asin}.jpg") for name, asin in zip(names, ids)
        )
    return columns
