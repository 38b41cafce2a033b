"""What do price, category, genres and what is known of users add to DIN on ids?

    python -m benchmarks.attributes --seeds 0 1 2
    python -m benchmarks.attributes --seeds 0 1 2 --data path/to/ml-1m --users 150

Without `--data` a planted shop: each user likes one of eight categories and some of twelve
materials, and finds things too dear or too cheap; what the user earns is known of half of them. A
third of the items is new: nobody has touched them before the test, which is on each user's last
four impressions, two of new items and two of others. With `--data` some users of MovieLens-1M,
tested on the last ten impressions of each. DIN reads

ids      ids alone
items    the attributes of items, too
both     the attributes of items and of users
best     nothing: these are the planted probabilities

All settings are defaults, but for `max_length=50`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from skmars import DINClassifier, Impressions, ItemCatalog, load_movielens_1m

MODELS = {"ids": (None, None), "items": ("auto", None), "both": ("auto", "auto")}
N_CATEGORIES, N_MATERIALS, N_TESTS = 8, 12, 4
N_LAST = 10
# Rows to train on, and groups of rows to test on.
Problem = tuple[Impressions, np.ndarray, np.ndarray, dict[str, np.ndarray]]


def shop(
    seed: int, n_users: int = 1000, n_items: int = 300, n_each: int = 20
) -> tuple[Problem, np.ndarray]:
    """Draw the planted shop; also returns the probability of each click."""
    rng = np.random.RandomState(seed)
    category, cost = rng.randint(N_CATEGORIES, size=n_items), rng.normal(size=n_items)
    made_of = rng.uniform(size=(n_items, N_MATERIALS)) < 0.2
    likes = rng.randint(N_CATEGORIES, size=n_users)
    taste, means = rng.normal(size=(n_users, N_MATERIALS)), rng.choice([-1, 1], n_users)
    user = np.repeat(np.arange(n_users), n_each)
    last = np.tile(np.arange(n_each) >= n_each - N_TESTS, n_users)
    is_new = np.tile(np.arange(n_each) >= n_each - N_TESTS // 2, n_users)
    n_known = n_items * 2 // 3
    item = np.where(
        is_new, rng.randint(n_known, n_items, len(user)), rng.randint(n_known, size=len(user))
    )
    of_materials = np.einsum("ij,ij->i", taste[user], made_of[item])
    match = category[item] == likes[user]
    probability = expit(-1 + 2.5 * match + of_materials + means[user] * cost[item])
    y = (rng.uniform(size=len(user)) < probability).astype(int)
    log = pd.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "timestamp": np.tile(np.arange(n_each), n_users),
            "clicked": y,
        }
    )
    attributes = {
        "category": [f"category {c}" for c in category],
        "log_price": cost,
        "materials": [[f"material {m}" for m in np.flatnonzero(row)] for row in made_of],
    }
    earns = [["little", None, "much"][m + 1] if k else None for m, k in zip(means, likes % 2)]
    X, y = Impressions.from_log(
        log,
        ItemCatalog(np.arange(n_items), attributes=attributes),
        label="clicked",
        history="all",
        users=pd.DataFrame({"user_id": np.arange(n_users), "earns": earns}),
        duplicates="keep",
    )
    tests = {
        "new items": np.flatnonzero(is_new),
        "other items": np.flatnonzero(last & ~is_new),
    }
    return (X, y, np.flatnonzero(~last), tests), probability


def movielens(path: str, n_users: int, seed: int) -> Problem:
    """Read some users, drawn at random."""
    catalog, log = load_movielens_1m(path, content=False)
    chosen = np.random.RandomState(seed).permutation(log["user_id"].unique())[:n_users]
    X, y = Impressions.from_log(
        log[log["user_id"].isin(chosen)].reset_index(drop=True),
        catalog,
        label="liked",
        history="all",
        users=["gender", "age", "occupation"],
    )
    n_later = np.bincount(X.user)[X.user] - X.history.length  # all that was rated is in histories
    train, rows = np.flatnonzero(n_later > N_LAST), np.flatnonzero(n_later <= N_LAST)
    count = np.bincount(X.target[train], minlength=len(catalog))
    often = count[X.target[rows]] >= 10
    return (
        *(X, y, train),
        {"all": rows, "rated < 10 times": rows[~often], "others": rows[often]},
    )


def scores(problem: Problem, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each model, and its score of each row."""
    X, y, train, _ = problem
    for name, (items, users) in MODELS.items():
        din = DINClassifier(
            item_attributes=items, user_attributes=users, max_length=50, random_state=seed
        )
        yield name, din.fit(X[train], y[train]).decision_function(X)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=os.path.abspath, help="folder of MovieLens-1M")
    parser.add_argument("--users", type=int, default=150)
    args = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    for seed in args.seeds:
        if args.data:
            problem, others = movielens(args.data, args.users, seed), []
        else:
            problem, probability = shop(seed)
            others = [("best", probability)]
        _, y, _, tests = problem
        for name, score in [*scores(problem, seed), *others]:
            for group, rows in tests.items():
                auc = float(roc_auc_score(y[rows], score[rows]))
                found.setdefault((group, name), []).append(auc)
                print(seed, f"{group} ({len(rows)} rows)", name, round(auc, 4), flush=True)
    for (group, name), auc in found.items():
        spread = f", sd {np.std(auc, ddof=1):.4f}" if len(auc) > 1 else ""
        print(f"{group:18} {name:6} AUC {np.mean(auc):.4f}{spread}")


if __name__ == "__main__":
    main()
