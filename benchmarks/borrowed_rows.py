"""Which rows borrow something else without centring, and does content count without a residual?

    python -m benchmarks.borrowed_rows
    python -m benchmarks.borrowed_rows --data path/to/ml-1m --users 300

Both parts look at the last row of each user who is low-active, where the aligner and the augmenter
were fitted to all rows before. Without `--data` the data are those of `make_multimodal_ctr`.

First, the share of the rows that borrow, with ``center=True`` or ``False``, for which the donor, or
the borrowed items, are not the same: with the default's vectors and relevance, and with the printed
ones. Second, with ``variant="paper"``, what changes when all items swap their texts and images
after the fit: the embeddings of items and users, the donors and the borrowed items. The classifier
of this variant reads ids, so that what it predicts changes with the borrowed items alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from benchmarks.measure import threads
from benchmarks.movielens import settings_of
from benchmarks.prepare import prepared
from skmars import Impressions, leave_last_out, load_movielens_1m, make_mars, make_multimodal_ctr


def rows(data: Path | None, users: int, seed: int) -> tuple[Impressions, np.ndarray]:
    """Read or draw impressions and clicks."""
    if data is None:
        return make_multimodal_ctr(n_users=users, n_items=300, random_state=seed)
    catalog, log = load_movielens_1m(data)
    chosen = np.random.RandomState(seed).permutation(np.unique(log["user_id"]))[:users]
    log = log[np.isin(log["user_id"], chosen)]
    return Impressions.from_log(log, catalog, label="liked")


def borrowed(X: Impressions) -> list[tuple[int, ...]]:
    """Return of each row its donor and the items that it borrows; () for none."""
    b: Any = X.borrowed
    at = [slice(b.start[r], b.start[r] + b.length[r]) for r in range(len(X))]
    items = X.catalog.ids[b.items]
    return [(*b.donor[s][:1].tolist(), *items[s].tolist()) for s in at]


def differing(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> str:
    """Return how many rows borrow, of how many the donor differs, and of how many the items."""
    pairs = [(a, b) for a, b in zip(one, other) if a or b]
    n = max(1, len(pairs))
    donor, items = sum(a[:1] != b[:1] for a, b in pairs), sum(a != b for a, b in pairs)
    return f"{len(pairs)} rows, other donor {donor / n:.1%}, other donor or items {items / n:.1%}"


def shuffled(X: Impressions, seed: int) -> Impressions:
    """Let items swap their texts and images."""
    order = np.random.RandomState(seed).permutation(len(X.catalog))
    features = {name: matrix[order] for name, matrix in X.catalog.features.items()}
    missing = {name: mask[order] for name, mask in X.catalog.missing.items()}
    return X.with_catalog(X.catalog.with_features(features, missing))


def main() -> None:
    """Read the command line and print both parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=None, help="folder of MovieLens-1M")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="parameter=value of both pipelines")
    arguments = parser.parse_args()
    X, y = rows(arguments.data, arguments.users, arguments.seed)
    train, _, test = leave_last_out(X)
    with threads(1):
        for variant in ("default", "paper"):
            mars = make_mars(variant, random_state=arguments.seed, **settings_of(arguments.set))
            before = prepared(mars[:1], (X[train], X[test]), y[train])
            aligned = prepared(mars["align"], before, y[train])
            found = []
            for center in (True, False):
                augmenter = clone(mars["augment"]).set_params(center=center)
                found.append(borrowed(augmenter.fit(aligned[0]).transform(aligned[1])))
            print(f"{variant}, without centring: {differing(*found)}", flush=True)
        swapped = mars["align"].transform(shuffled(before[1], arguments.seed))
        one, other = aligned[1].catalog.embedding, swapped.catalog.embedding
        assert one is not None
        assert other is not None
        users = aligned[1].user_embedding, swapped.user_embedding
        for what, a, b in (("items", one, other), ("users", *users)):
            change = np.linalg.norm(a - b) / np.linalg.norm(a)
            print(f"swapped content: embeddings of {what} change by {change:.1e} of their length")
        augmenter = mars["augment"].fit(aligned[0])
        both = [augmenter.transform(Z) for Z in (aligned[1], swapped)]
        print(f"swapped content: {differing(*map(borrowed, both))}")


if __name__ == "__main__":
    main()
