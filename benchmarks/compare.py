"""What does `compare` recommend, on data of which something is known?

    python -m benchmarks.compare --data shop --users 600
    python -m benchmarks.compare --data planted --users 500
    python -m benchmarks.compare --data ml-1m --users 300 --folder ../shared/data/ml-1m
    python -m benchmarks.compare --data amazon --users 3000 --folder amazon-2014/beauty.txt

shop      `make_small_shop`: click rates say nearly all, nothing complex should be recommended
planted   `make_multimodal_ctr`: users have look-alikes, which DIN and MARS should find
ml-1m     MovieLens-1M, some of the users, plots as texts, the first genre as category
amazon    purchases without content, some of the users; to each a random item that was not bought
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import threads
from skmars import (
    Impressions,
    ItemCatalog,
    compare,
    load_movielens_1m,
    make_multimodal_ctr,
    make_small_shop,
)


def movielens(folder: Path, n_users: int, seed: int) -> tuple[Impressions, np.ndarray]:
    """Read some users of MovieLens-1M, without posters."""
    catalog, log = load_movielens_1m(folder)
    rng = np.random.default_rng(seed)
    log = log[log.user_id.isin(rng.choice(log.user_id.unique(), n_users, replace=False))]
    first = [genres[0] if genres else None for genres in catalog.attributes["genres"].to_list()]
    items = ItemCatalog(
        catalog.ids, content={"text": catalog.content["text"]}, attributes={"category": first}
    )
    times = {"time": "approximate_time", "order": "position"}
    return Impressions.from_log(log, items, label="liked", history="all", **times)


def purchases(file: Path, n_users: int, seed: int) -> tuple[Impressions, np.ndarray]:
    """Read some users of a file with a line a user, and add an item at random to each purchase."""
    lines = [np.array(line.split(), dtype=np.int64) for line in file.read_text().splitlines()]
    rng = np.random.default_rng(seed)
    chosen = [lines[i] for i in rng.choice(len(lines), n_users, replace=False)]
    items = np.unique(np.concatenate([line[1:] for line in chosen]))
    parts = []
    for line in chosen:
        bought = line[1:]
        others = rng.choice(np.setdiff1d(items, bought), len(bought))
        place = np.arange(len(bought))
        for item, clicked in ((bought, 1), (others, 0)):
            parts.append(pd.DataFrame({"item_id": item, "place": place, "clicked": clicked}))
            parts[-1]["user_id"] = line[0]
    return Impressions.from_log(pd.concat(parts), label="clicked", order="place", time=None)


def last_moments(X: Impressions) -> list[tuple[np.ndarray, np.ndarray]]:
    """Test on all rows of each user's longest history: a purchase and what was not bought."""
    longest = np.zeros(len(X.users), dtype=np.int64)
    np.maximum.at(longest, X.user, X.history.length)
    last = X.history.length == longest[X.user]
    return [(np.flatnonzero(~last), np.flatnonzero(last))]


def main(command: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", choices=["shop", "planted", "ml-1m", "amazon"], default="shop")
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="of the real data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leave-out", nargs="*", default=[], help="models, such as MARS")
    arguments = parser.parse_args(command)
    n, seed = arguments.users, arguments.seed
    settings: dict[str, Any] = {"models": dict.fromkeys(arguments.leave_out)}
    if arguments.data == "shop":
        X, y = make_small_shop(n, random_state=seed)
    elif arguments.data == "planted":
        X, y = make_multimodal_ctr(n, random_state=seed)
    elif arguments.data == "ml-1m":
        X, y = movielens(arguments.folder, n, seed)
    else:
        X, y = purchases(arguments.folder, n, seed)
        settings["cv"] = last_moments(X)
    print(X)
    begin = time.perf_counter()
    print(compare(X, y, random_state=seed, verbose=1, **settings))
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    with threads(1):
        main()
