"""Scoring on a cluster gives what one process gives, for each row once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skmars
from skmars.cli._commands import predict as predict_here
from skmars.distributed import predict
from skmars.serving import Request, Scorer, Snapshot, open_store
from tests.distributed.shop import N_KNOWN, append

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")
pytest.importorskip("lmdb")

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def rows(log: Any) -> Any:
    """Later rows, with users and items that nobody knows, and a column that no model needs."""
    rows = log[N_KNOWN:].drop(columns="clicked").reset_index(drop=True)
    rows.loc[::50, "who"] = 10**6
    rows.loc[::70, "what"] = 10**6
    return rows.assign(number=np.arange(len(rows)))


def in_order(scored: Any) -> Any:
    return scored.to_pandas().sort_values("number", ignore_index=True)


def test_same_as_in_one_process(cluster: Any, folder: Path, rows: Any, tmp_path: Path) -> None:
    blocks = cluster.data.from_arrow([pa.Table.from_pandas(rows[part::4]) for part in range(4)])
    scored = in_order(predict(folder, blocks, n_actors=2, batch_size=100))
    pd.testing.assert_frame_equal(scored[list(rows.columns)], rows, check_dtype=False)
    rows.to_parquet(tmp_path / "all.parquet")
    here = predict_here(skmars.load(folder), tmp_path / "all.parquet")
    expected = np.asarray(here["probability"])
    np.testing.assert_allclose(scored["probability"], expected, rtol=0, atol=TOLERANCE)
    assert len(set(expected)) > len(rows) / 2


def test_histories_of_a_store(cluster: Any, folder: Path, log: Any, rows: Any, tmp_path: Path):
    """The scores are those of the scorer; later events change nothing."""
    store = open_store(f"lmdb:{tmp_path}/store")
    events = log[: N_KNOWN + 200]
    append(store, events)
    rows = rows.sample(60, random_state=0).assign(number=np.arange(60))
    requests = [
        Request(row.who, [row.what], row.when, {"hour": row.hour, "device": row.device})
        for row in rows.itertuples()
    ]
    answers = Scorer(store).score(Snapshot.load(folder, store), requests)
    rows.to_parquet(tmp_path / "rows.parquet")
    scored = predict(folder, tmp_path / "rows.parquet", store=store, n_actors=1)
    append(store, log[N_KNOWN + 200 :])
    found = in_order(scored)["probability"]
    store.close()
    expected = np.concatenate([answer.probability for answer in answers])
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_a_row_that_can_not_be_read(cluster: Any, folder: Path, rows: Any, tmp_path: Path) -> None:
    bad = rows.assign(device=rows["device"].astype(object))
    bad.loc[3, "who"] = None
    path = tmp_path / "bad.parquet"
    bad.to_parquet(path)
    with pytest.raises(ValueError, match="who") as here:
        predict_here(skmars.load(folder), path)
    with pytest.raises(Exception, match="who") as there:
        predict(folder, cluster.data.from_pandas(bad), n_actors=1).materialize()
    assert str(here.value).replace(str(path), "rows") in str(there.value)
    assert "'what': " in str(there.value)  # where the batch begins


def test_refused_before_anything_is_scored(cluster: Any, folder: Path, rows: Any) -> None:
    data = cluster.data.from_arrow
    table = pa.Table.from_pandas(rows[:5])
    with pytest.raises(ValueError, match="rows has no column 'device'"):
        predict(folder, data(table.drop_columns(["device"])))
    strings = table.drop_columns(["who"]).append_column("who", table["who"].cast("string"))
    with pytest.raises(ValueError, match="column 'who' holds strings, but these ids are integers"):
        predict(folder, data(strings))
    with pytest.raises(ValueError, match="has a column 'probability' already"):
        predict(folder, data(table.append_column("probability", table["when"])))
    with pytest.raises(TypeError, match="rows must be a ray.data.Dataset"):
        predict(folder, rows)
    with pytest.raises(TypeError, match="store must be an address"):
        predict(folder, data(table), store=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_actors must be from 1 to 2, got 3"):
        predict(folder, data(table), n_actors=3)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        predict(folder, data(table), batch_size=0)
    with pytest.raises(FileNotFoundError):
        predict(folder / "none", data(table))
