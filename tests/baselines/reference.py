"""The recipes, row by row and without haste.

A function named after an operator lists all rows that it may give, each as likely as the others.
"""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np

MASK = "mask"


def similar(item):
    """Stand-in for the most similar item."""
    return ("like", item)


def _windows(n, share):
    size = int(share * n)
    return [(start, size) for start in range(max(n - size - 1, 0) + 1)]


def crop(row, share):
    return [row[start : start + max(size, 1)] for start, size in _windows(len(row), share)]


def mask(row, rate):
    return [
        [MASK if i in chosen else x for i, x in enumerate(row)]
        for chosen in combinations(range(len(row)), int(rate * len(row)))
    ]


def reorder(row, rate):
    return [
        [*row[:start], *window, *row[start + size :]]
        for start, size in _windows(len(row), rate)
        for window in permutations(row[start : start + size])
    ]


def _some(row, rate):
    return combinations(range(len(row)), min(max(int(rate * len(row)), 1), len(row)))


def substitute(row, rate):
    return [
        [similar(x) if i in chosen else x for i, x in enumerate(row)] for chosen in _some(row, rate)
    ]


def insert(row, rate):
    return [
        [y for i, x in enumerate(row) for y in ([similar(x), x] if i in chosen else [x])]
        for chosen in _some(row, rate)
    ]


def item_cf_iuf(rows, n_items):
    """C_ij / sqrt(N_i N_j) by loops over users and pairs."""
    count, together = np.zeros(n_items), np.zeros((n_items, n_items))
    for row in rows:
        items = set(row)
        for i in items:
            count[i] += 1
            for j in items - {i}:
                together[i, j] += 1 / math.log(1 + len(items))
    for i in range(n_items):
        for j in range(n_items):
            if together[i, j]:
                together[i, j] /= math.sqrt(count[i] * count[j])
    return together


def hybrid(similarity, vectors):
    """The better of both similarities of each item, each scaled to [0, 1] over its pairs."""
    n = len(similarity)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    offline = [similarity[p] for p in pairs if similarity[p] > 0]
    online = [float(vectors[i] @ vectors[j]) for i, j in pairs]

    def scaled(value, values):
        low, high = min(values), max(values)
        return 1.0 if low == high else (value - low) / (high - low)

    best = []
    for i in range(n):
        candidates = [
            (scaled(similarity[i, j], offline), 1, -j)
            for j in range(n)
            if j != i and similarity[i, j] > 0
        ]
        candidates += [
            (scaled(float(vectors[i] @ vectors[j]), online), 0, -j) for j in range(n) if j != i
        ]
        best.append(-max(candidates)[2] if candidates else -1)
    return best


def repeat(row, copies, max_length, delimiter=None):
    """RepPad with a given number of further copies."""
    between = [] if delimiter is None else [delimiter]
    out = list(row)
    for _ in range(copies):
        out = [*row, *between, *out]
    return out[-max_length:]


def basrec_weights(shares, rates, reweighting):
    """The weight of each row of a batch: 1 / (share * rate), scaled to [0, 1] over the batch.

    For "batch" as the authors' code has it: the row of weights and the column of losses make a
    table of products, so that each loss counts with every weight.
    """
    value = [1 / (share * rate) for share, rate in zip(shares, rates)]
    low, high = min(value), max(value)
    if low == high:
        return [1.0] * len(value)
    weight = [(v - low) / (high - low) for v in value]
    return weight if reweighting == "row" else [sum(w for w in weight) for _ in weight]


def nt_xent(first, second, temperature=1.0, weight=None):
    """NT-Xent over all 2n views, one after the other."""
    z = [*first, *second]
    n = len(first)
    total = count = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = [np.exp(z[i] @ z[j] / temperature) for j in range(2 * n) if j != i]
        loss = -math.log(np.exp(z[i] @ z[partner] / temperature) / sum(others))
        w = 1.0 if weight is None else weight[i % n]
        total, count = total + w * loss, count + w
    return total / count
