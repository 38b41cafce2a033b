"""Downloads that continue where they broke off, and are checked before they count."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT = 60
N_TRIALS = 3
REFUSED = (400, 401, 403, 404, 410, 451)  # trying again will not help


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder where data sets are kept, and create it if needed.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder. None takes that of the environment variable `SKMARS_DATA`, or else
        ``~/skmars_data``.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> import tempfile
    >>> from skmars.datasets import get_data_home
    >>> get_data_home(tempfile.mkdtemp()).is_dir()
    True
    """
    home = Path(data_home or os.environ.get("SKMARS_DATA") or "~/skmars_data").expanduser()
    home.mkdir(parents=True, exist_ok=True)
    return home


def fetch(
    url: str, path: Path, *, checksum: str | None = None, download_if_missing: bool = True
) -> None:
    """Bring the file at `url` to `path`; nothing happens where it is there already.

    The file grows under the name ``<path>.part``, which a later call continues, and gets its
    own name once it is complete and its checksum (``"md5:..."`` or ``"sha256:..."``) is right.
    Otherwise an OSError says what to do.
    """
    algorithm, _, expected = (checksum or "").partition(":")
    if checksum is not None and (algorithm not in ("md5", "sha256") or not expected):
        raise ValueError(f"checksum must be 'md5:...' or 'sha256:...', got {checksum!r}.")
    if path.is_file():
        if checksum is not None:
            _verify(path, algorithm, expected, url)
        return
    by_hand = f"Download it by other means, put it at {path} and call again."
    if not download_if_missing:
        raise OSError(
            f"{path} is not there and download_if_missing=False. It comes from {url}. {by_hand}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for trial in range(1, N_TRIALS + 1):
        try:
            _continue(url, part)
            break
        except (OSError, http.client.HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code in REFUSED
            if trial == N_TRIALS or refused:
                raise OSError(
                    f"{url} could not be downloaded ({error}). {by_hand}"
                    " What has arrived is kept; with a connection, calling again continues it."
                ) from error
    if checksum is not None:
        _verify(part, algorithm, expected, url)
    part.replace(path)


def _continue(url: str, part: Path) -> None:
    """Append to `part` what it lacks of the file at `url`; OSError if that breaks off."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            # Nothing lies beyond what is there: it is complete, or a remnant of something else.
            total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if total == str(have):
                return
            part.unlink()
        raise
    with response:
        # A server that ignores the range sends the whole file again.
        resumed = have > 0 and response.status == http.client.PARTIAL_CONTENT
        promised = response.headers.get("Content-Length")
        with open(part, "ab" if resumed else "wb") as file:
            shutil.copyfileobj(response, file)
            received = file.tell() - have * resumed
    if promised is not None and received < int(promised):
        raise OSError(f"the connection closed after {received} of {promised} bytes")


def _verify(path: Path, algorithm: str, expected: str, url: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found == expected.lower():
        return
    if path.suffix == ".part":
        # Continuing a wrong file would never make it right.
        path.unlink()
    raise OSError(
        f"{path.name.removesuffix('.part')} has {algorithm} {found}, expected {expected}: it is "
        f"damaged or not the file of {url}. Delete it if it is still there, and call again."
    )
