"""Open a store by its address."""

from __future__ import annotations

from urllib.parse import parse_qsl

from skmars.serving.store._store import Store

WAYS = "lmdb:PATH (a folder), redis://HOST:PORT/DATABASE or rediss://... (encrypted)"


def open_store(url: str) -> Store:
    """Open the store of events that a service, a runner or a script works with.

    Parameters
    ----------
    url : str
        One of

        - ``"lmdb:PATH"``, ``"lmdb:///absolute/path"``: a folder of this machine, made if there is
          none, for all its processes. Behind it, ``?max_bytes=...`` limits its size.
        - ``"redis://host:port/database"``, ``"rediss://..."`` (encrypted): a server, for many
          machines. Behind it stand the options that redis-py knows, such as
          ``?socket_timeout=2&socket_connect_timeout=1`` (seconds; 5 and 2 where nothing is said),
          and ``durable=no`` for a server that may lose what it has acknowledged.

    Returns
    -------
    Store
        For all threads of this process; a process that is forked opens its own.

    Raises
    ------
    ValueError
        If the URL is none of these.
    ImportError
        If the package that it needs is not installed.
    StoreError
        If the store can't be opened, is open in this process already (LMDB), or would lose events
        when it is killed (Redis, unless ``durable=no``).

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from skmars.serving import open_store
    >>> folder = TemporaryDirectory()
    >>> store = open_store(f"lmdb:{folder.name}")
    >>> store.publish("pool", "pools/3")
    >>> store.pointer("pool")
    'pools/3'
    >>> store.close()
    >>> folder.cleanup()
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a string, got {url!r}. The ways: {WAYS}.")
    scheme, colon, _ = url.partition(":")
    try:
        if scheme + colon == "lmdb:":
            path, max_bytes = _lmdb_address(url)
            from skmars.serving.store._lmdb import LMDBStore

            return LMDBStore(path, max_bytes=max_bytes)
        if scheme + colon in ("redis:", "rediss:"):
            from skmars.serving.store._redis import RedisStore

            return RedisStore(url)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The store {scheme}:... needs the package {error.name}: pip install 'skmars[serving]'."
        ) from error
    raise ValueError(f"url must name a store, got {without_password(url)!r}. The ways: {WAYS}.")


def without_password(url: str) -> str:
    """Return the address of a store as it may be shown."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def _lmdb_address(url: str) -> tuple[str, int | None]:
    address, _, query = url.partition("?")
    path = address.removeprefix("lmdb:")
    if path.startswith("//"):
        host, slash, path = path.removeprefix("//").partition("/")
        if host:
            raise ValueError(
                f"url names a host ({host!r} in {url!r}), but an lmdb store is a folder of this "
                f"machine: lmdb:PATH or lmdb:///absolute/path. The ways: {WAYS}."
            )
        path = slash + path
    if not path:
        raise ValueError(f"url names no folder: {url!r}. The ways: {WAYS}.")
    given = dict(parse_qsl(query, keep_blank_values=True))
    max_bytes = given.pop("max_bytes", None)
    if given:
        raise ValueError(f"url has the option {next(iter(given))!r}, and only max_bytes is known.")
    if max_bytes is None:
        return path, None
    if not max_bytes.isdecimal() or int(max_bytes) < 2**20:
        raise ValueError(f"max_bytes must be an integer of at least 2**20, got {max_bytes!r}.")
    return path, int(max_bytes)
