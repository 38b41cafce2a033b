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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

from skmars.data import ItemCatalog
from skmars.data._frames import make_frame
from skmars.datasets import _download
from skmars.utils._ids import factorize

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
) -> tuple[ItemCatalog, Any]:
    """Load one category of the Amazon reviews of 2014 from a folder.

    Reads ``reviews_<category>_5.json.gz`` (the 5-core) and ``meta_<category>.json.gz``.
    Lines that can't be read are left out, counted, and named in one warning.

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
    FileNotFoundError
        If a file is not there; the message names it.
    ValueError
        If `category` is None and there are several, or no line of the reviews can be read.
    ImportError
        If the library that `frame` names is not installed.

    Warns
    -----
    UserWarning
        If lines can't be read.

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
    make_frame({}, frame)  # a missing library is found before the files are read
    folder = Path(path)
    category = category or _only_category(folder)
    reviews_file, meta_file = _names(category)
    files = [folder / reviews_file, *([folder / meta_file] if content else [])]
    for file in files:
        if not file.is_file():
            hint = " (or pass content=False)" if file.name == meta_file else ""
            raise FileNotFoundError(
                f"{file} is not there. Download {file.name} from {URL}{file.name} and put it into "
                f"{folder}{hint}."
            )
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"images: {images} is not a folder.")

    unreadable: dict[str, int] = {}
    user, item, rating, seconds = _read_reviews(files[0], unreadable)
    ids, _ = factorize(item)
    columns: dict[str, NDArray[np.object_]] = {}
    if content:
        meta = _read_meta(files[1], set(ids.tolist()), unreadable)
        columns = _content(ids, meta, None if images is None else Path(images))
    if unreadable:
        shown = ", ".join(f"{count} in {name}" for name, count in unreadable.items())
        warnings.warn(
            f"Lines that can't be read were left out: {shown}. If there are many, download the "
            "file again.",
            UserWarning,
            stacklevel=2,
        )

    _, code = factorize(user)
    order = np.lexsort((seconds, code))
    code, stars = code[order], rating[order]
    _, first = np.unique(code, return_index=True)
    log = make_frame(
        {
            "user_id": user[order],
            "item_id": item[order],
            "rating": stars,
            "liked": stars >= MIN_LIKED,
            "position": np.arange(len(order)) - first[code],
            "timestamp": seconds[order],
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
) -> tuple[ItemCatalog, Any]:
    """Load one category of the Amazon reviews of 2014, downloading it first where needed.

    Parameters
    ----------
    category : str
        As in the names of the files: ``"Beauty"``, ``"Toys_and_Games"``.
    data_home : str or path-like, default=None
        Where to keep data sets; see `get_data_home`.
    checksums : mapping of str to str, default=None
        File name to ``"md5:..."`` or ``"sha256:..."``. The publisher gives none; where you know
        them, downloads are checked. (Their length always is.)
    download_if_missing : bool, default=True
        If False, raise an OSError where the data is not there yet.
    frame, content, images
        As in `load_amazon_reviews`.

    Returns
    -------
    catalog : ItemCatalog
    log : pandas.DataFrame, polars.DataFrame or pyarrow.Table
        See `load_amazon_reviews`.

    Raises
    ------
    OSError
        If a download fails or its checksum is wrong; the message says which file to put
        where by hand. An interrupted download continues at the next call.
    ValueError
        If `checksums` names a file that is not fetched.

    Examples
    --------
    >>> from skmars.datasets import fetch_amazon_reviews
    >>> catalog, log = fetch_amazon_reviews("Beauty")  # doctest: +SKIP
    """
    names = _names(category)[: 2 if content else 1]
    checksums = checksums or {}
    for name in checksums:
        if name not in names:
            raise ValueError(f"checksums names {name!r}; the files fetched are {', '.join(names)}.")
    make_frame({}, frame)
    folder = _download.get_data_home(data_home) / "amazon-2014"
    for name in names:
        _download.fetch(
            URL + name,
            folder / name,
            checksum=checksums.get(name),
            download_if_missing=download_if_missing,
        )
    return load_amazon_reviews(
        folder, category=category, frame=frame, content=content, images=images
    )


def _names(category: str) -> tuple[str, str]:
    if not re.fullmatch(r"\w+", category):
        raise ValueError(
            f"category must be as in the names of the files, such as 'Toys_and_Games', "
            f"got {category!r}."
        )
    return f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz"


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


def _lines(path: Path, unreadable: dict[str, int]) -> Iterator[bytes]:
    """Yield the lines of a gzip file; where its end is missing, that counts as one bad line."""
    with gzip.open(path, "rb") as file:
        try:
            yield from file
        except (EOFError, zlib.error, gzip.BadGzipFile):
            unreadable[path.name] = unreadable.get(path.name, 0) + 1


def _parse(line: bytes) -> dict[str, Any]:
    """Read a JSON object or, as in the files of metadata, a Python dict literal."""
    try:
        value = json.loads(line)
    except ValueError:
        value = ast.literal_eval(line.decode("utf-8").strip())
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _parse_all(
    path: Path,
    take: Callable[[dict[str, Any]], Any],
    unreadable: dict[str, int],
    wanted: set[str] | None = None,
) -> Iterator[Any]:
    """Yield what `take` makes of each line; lines on which that fails are counted."""
    for line in _lines(path, unreadable):
        if not line.strip():
            continue
        if wanted is not None:
            # Most products have no reviews in the 5-core; reading a dict literal is slow.
            asin = ASIN.search(line)
            if asin is not None and asin.group(1).decode() not in wanted:
                continue
        try:
            record = take(_parse(line))
        except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
            unreadable[path.name] = unreadable.get(path.name, 0) + 1
            continue
        yield record


def _review(record: dict[str, Any]) -> tuple[str, str, float, float]:
    user, item = record["reviewerID"], record["asin"]
    rating, seconds = float(record["overall"]), float(record["unixReviewTime"])
    if not (isinstance(user, str) and isinstance(item, str) and user and item):
        raise ValueError("ids are not strings")
    if not (math.isfinite(rating) and math.isfinite(seconds)):
        raise ValueError("stars or time are not numbers")
    return user, item, rating, seconds


def _read_reviews(
    path: Path, unreadable: dict[str, int]
) -> tuple[NDArray[np.object_], NDArray[np.object_], NDArray[np.float64], NDArray[np.float64]]:
    records = list(_parse_all(path, _review, unreadable))
    if not records:
        raise ValueError(
            f"{path} has no line that can be read: each should be a JSON object with reviewerID, "
            "asin, overall and unixReviewTime."
        )
    user, item, rating, seconds = zip(*records)
    return (
        np.array(user, dtype=object),
        np.array(item, dtype=object),
        np.array(rating, dtype=np.float64),
        np.array(seconds, dtype=np.float64),
    )


def _product(record: dict[str, Any]) -> tuple[str, str | None, str | None, str | None]:
    title, description, url = (_text(record.get(n)) for n in ("title", "description", "imUrl"))
    return str(record["asin"]), title, description, url


def _text(value: Any) -> str | None:
    """Plain text of a field, in which the files leave HTML entities."""
    if isinstance(value, list):
        value = "\n".join(v for v in value if isinstance(v, str))
    return html.unescape(value).strip() or None if isinstance(value, str) else None


def _read_meta(
    path: Path, wanted: set[str], unreadable: dict[str, int]
) -> dict[str, tuple[str | None, str | None, str | None]]:
    products = _parse_all(path, _product, unreadable, wanted)
    return {asin: tuple(rest) for asin, *rest in products if asin in wanted}  # type: ignore[misc]


def _content(
    ids: NDArray[Any],
    meta: dict[str, tuple[str | None, str | None, str | None]],
    images: Path | None,
) -> dict[str, NDArray[np.object_]]:
    columns = {name: np.full(len(ids), None, dtype=object) for name in ("title", "text", "image")}
    there = set() if images is None else {entry.name for entry in os.scandir(images)}
    for i, asin in enumerate(ids):
        title, description, url = meta.get(asin, (None, None, None))
        columns["title"][i] = title
        columns["text"][i] = "\n".join(p for p in (title, description) if p) or None
        of_url = os.path.basename(urlparse(url).path) if url else None
        name = next((n for n in (of_url, f"{asin}.jpg") if n in there), None)
        if name is not None and images is not None:
            columns["image"][i] = os.path.abspath(images / name)
    if images is None:
        del columns["image"]
    return columns
