"""Score logged requests again, with the versions and the events that they were scored with."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.serving.scoring._request import Request
from skmars.serving.scoring._scorer import Answer, Scorer
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._current import OF_FIT, model_of, version_folder
from skmars.serving.store._store import Store

# Records that are read together, and candidates that are predicted together.
BLOCK_RECORDS, BLOCK_CANDIDATES = 1024, 1 << 14
N_SNAPSHOTS = 2
NEEDED = ("user_id", "item_ids", "versions", "position", "probability")

Versions = tuple[str, str]


def logged(request: Request, answer: Answer) -> dict[str, Any]:
    """Return a request and its answer as a record: one line of a log of JSON lines.

    Parameters
    ----------
    request : Request
    answer : Answer

    Returns
    -------
    dict
        Of strings, numbers, lists and dicts, which ``json.dumps`` takes.
    """
    return {
        "user_id": _plain(request.user_id),
        "item_ids": _plain(request.item_ids),
        "time": _plain(request.time),
        "context": {name: _plain(value) for name, value in request.context.items()},
        "versions": dict(answer.versions),
        "position": answer.position,
        "flags": list(answer.flags),
        "probability": answer.probability.tolist(),
    }


def _plain(value: Any) -> Any:
    """Return a value with Python's own numbers and lists."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def read_logged(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the records of a log of requests, a few at a time in memory.

    Parameters
    ----------
    path : str or path-like
        A Parquet file (``.parquet``) with the columns of `logged`, of which `context` and
        `versions` may be structs or JSON texts; or else JSON lines.

    Raises
    ------
    ValueError
        If a line is no record. The message names the file and the line.
    """
    path = Path(path)
    records = _parquet(path) if path.suffix == ".parquet" else _json_lines(path)
    for number, record in records:
        lacking = [name for name in NEEDED if record.get(name) is None]
        if lacking:
            raise ValueError(
                f"{path}, record {number}: {lacking[0]!r} is missing. Pass a log of requests, as "
                "`skmars serve` writes it."
            )
        yield record


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number} is no JSON ({error}). A last line that was cut off "
                    "may be deleted."
                ) from error
            if not isinstance(record, dict):
                raise ValueError(f"{path}, line {number} holds {record!r}, and no record.")
            yield number, record


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f'{path} is Parquet, which needs pyarrow: pip install "skmars[serving]".'
        ) from error
    with parquet.ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches(BLOCK_RECORDS):
            for record in batch.to_pylist():
                number += 1
                for name in ("context", "versions"):
                    if isinstance(record.get(name), str):
                        record[name] = json.loads(record[name])
                yield number, record


@dataclass
class Replay:
    """How far logged scores are from those that are computed again.

    Attributes
    ----------
    n_requests, n_scores : int
        Requests and scores that were compared.
    max_difference : float
        The largest absolute difference of probabilities; 0 if nothing was compared.
    worst : dict or None
        The record with that difference, and the probabilities computed again (`again`).
    by_version : dict of (str, str) to dict
        For each pair of versions of parameters and pool: `requests`, `scores` and
        `max_difference`.
    gone : dict of str to int
        Versions whose folder is not there any longer, with the number of requests that could not
        be scored again.
    """

    n_requests: int = 0
    n_scores: int = 0
    max_difference: float = 0.0
    worst: dict[str, Any] | None = None
    by_version: dict[Versions, dict[str, Any]] = field(default_factory=dict)
    gone: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [
            f"{self.n_scores} scores of {self.n_requests} requests: the largest difference is "
            f"{self.max_difference:.3g}."
        ]
        for (params, pool), row in self.by_version.items():
            lines.append(
                f"  params {params}, pool {pool}: {row['scores']} scores of {row['requests']} "
                f"requests, largest difference {row['max_difference']:.3g}."
            )
        for version, n in self.gone.items():
            lines.append(f"  {version} is gone: {n} requests can't be scored again.")
        if self.worst is not None and self.max_difference > 0:
            user, at = self.worst["user_id"], self.worst["position"]
            lines.append(f"  The largest difference: user {user!r}, position {at}.")
        return "\n".join(lines)

    def _add(self, versions: Versions, record: dict[str, Any], again: NDArray[np.float64]) -> None:
        told = np.asarray(record["probability"], dtype=np.float64)
        if len(told) != len(again):
            raise ValueError(
                f"a record of user {record['user_id']!r} has {len(told)} probabilities for "
                f"{len(again)} items."
            )
        difference = float(np.abs(told - again).max(initial=0.0))
        row = self.by_version.setdefault(
            versions, {"requests": 0, "scores": 0, "max_difference": 0.0}
        )
        row["requests"] += 1
        row["scores"] += len(again)
        row["max_difference"] = _larger(row["max_difference"], difference)
        self.n_requests += 1
        self.n_scores += len(again)
        if self.worst is None or not difference <= self.max_difference:
            self.worst = {**record, "again": again.tolist()}
        self.max_difference = _larger(self.max_difference, difference)


def _larger(a: float, b: float) -> float:
    """Return the larger number, NaN if there is one."""
    return float(np.maximum(a, b))


def replay(
    folder: str | os.PathLike[str],
    store: Store,
    records: str | os.PathLike[str] | Iterable[Mapping[str, Any]],
) -> Replay:
    """Score logged requests again, each with its versions and the events up to its position.

    Parameters
    ----------
    folder : str or path-like
        Folder of the saved model, with the folders of further versions below it.
    store : Store
        The one that the requests were scored with.
    records : str, path-like or iterable of mappings
        A log of requests, see `read_logged`, or what `logged` returned.

    Returns
    -------
    Replay

    Raises
    ------
    ValueError
        If a record is not what `logged` returns, or its position lies beyond the end of the store,
        which is then another one; if a folder does not hold what it should.
    TypeError
        If ids are of another kind than those of the model.

    Notes
    -----
    Memory is bounded, however long the log is: of the models and pools, the last two are kept.
    """
    if isinstance(records, str | os.PathLike):
        records = read_logged(records)
    scorer, result, snapshots = Scorer(store), Replay(), _Snapshots(folder)
    end = store.position
    rest = map(dict, records)
    while block := list(islice(rest, BLOCK_RECORDS)):
        by_version: dict[Versions, list[dict[str, Any]]] = {}
        for record in block:
            if record["position"] > end:
                raise ValueError(
                    f"a record of user {record['user_id']!r} has position {record['position']}, "
                    f"but the store ends at {end}. Pass the store that the requests were scored "
                    "with."
                )
            by_version.setdefault(_versions(record), []).append(record)
        for versions, mine in by_version.items():
            if gone := snapshots.gone(versions):
                result.gone.update({name: len(mine) for name in gone})
                continue
            snapshot = snapshots.get(versions)
            for part in _parts(mine):
                requests = [_request(record) for record in part]
                events, _ = scorer.fetch(requests)
                positions = [int(record["position"]) for record in part]
                known = [e[e["position"] <= at] for e, at in zip(events, positions)]
                for record, answer in zip(
                    part, scorer.answer(snapshot, requests, known, positions)
                ):
                    result._add(versions, record, answer.probability)
    return result


class _Snapshots:
    """Snapshots by their versions, of which the last ones are kept."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"{os.fspath(folder)} does not exist, or is no folder.")
        self._folder = folder
        self._kept: dict[Versions, Snapshot] = {}

    def gone(self, versions: Versions) -> list[str]:
        """Return the versions whose folder is not there."""
        return [
            name
            for name in versions
            if name != OF_FIT and not version_folder(self._folder, name).is_dir()
        ]

    def get(self, versions: Versions) -> Snapshot:
        """Return the snapshot of these versions."""
        snapshot = self._kept.pop(versions, None)
        if snapshot is None:
            mine = model_of(versions[0])
            alike = [s for s in self._kept.values() if model_of(s.versions["params"]) == mine]
            loaded = alike[-1] if alike else None
            snapshot = Snapshot.load_versions(self._folder, *versions, loaded=loaded)
        self._kept[versions] = snapshot
        if len(self._kept) > N_SNAPSHOTS:
            del self._kept[next(iter(self._kept))]
        return snapshot


def _versions(record: Mapping[str, Any]) -> Versions:
    versions = record["versions"]
    names = [versions.get(n) for n in ("params", "pool")] if isinstance(versions, Mapping) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"versions must name 'params' and 'pool', got {versions!r}. Pass a log of requests, as "
            "`skmars serve` writes it."
        )
    return versions["params"], versions["pool"]


def _parts(records: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield records in parts with a bounded number of candidates."""
    part, n = list[dict[str, Any]](), 0
    for record in records:
        if part and n + len(record["item_ids"]) > BLOCK_CANDIDATES:
            yield part
            part, n = [], 0
        part.append(record)
        n += len(record["item_ids"])
    if part:
        yield part


def _request(record: Mapping[str, Any]) -> Request:
    context = record.get("context") or {}
    return Request(record["user_id"], record["item_ids"], record.get("time"), context)
