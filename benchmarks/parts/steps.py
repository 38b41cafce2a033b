"""The other steps: container, encoder, aligner, import, grid search."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from benchmarks.interactions import load, padded, with_features
from benchmarks.measure import BYTES, FLOPS, Result, compare
from benchmarks.prepare import prepared
from skmars import (
    DINClassifier,
    ItemCatalog,
    MultimodalEncoder,
    SequenceRetrievalAugmenter,
    SteinAligner,
    leave_last_out,
    make_multimodal_ctr,
)

MB = 2**20
FEATURES = {"text": 384, "image": 1280}


def _load(arguments: Any) -> tuple[str, Any, Any]:
    return load(
        arguments.data, arguments.rows, mean_length=arguments.mean_length, sigma=arguments.sigma
    )


def container(arguments: Any) -> list[Result]:
    """Compare the size of impressions with that of padded int64 arrays, and time a shuffle of both.

    Size: target, user and history of skmars, with the flat items that the histories share;
    target, history and length of the peers. What a shuffle has to read and write are the bytes
    per row of each (so that shares compare each with its own need).
    """
    data, X, _ = _load(arguments)
    arrays = padded(X, arguments.max_length)
    part = f"container ({data}, {len(X):,} rows)"
    order = np.random.default_rng(0).permutation(len(X))
    columns = [X.user, X.target, X.history.start, X.history.length]
    rows, shared = sum(c.nbytes for c in columns), X.history.items.nbytes
    rectangle = sum(a.nbytes for a in arrays.values())
    contenders: dict[str, Callable[[], Any]] = {
        "skmars": lambda: X[order],
        "padded int64": lambda: {k: a[order] for k, a in arrays.items()},
    }
    moved = {"skmars": 2.0 * rows, "padded int64": 2.0 * rectangle}
    results = compare(part, contenders, arguments.repeats, work=moved, work_of=BYTES)
    results[0].size_mb, results[1].size_mb = (rows + shared) / MB, rectangle / MB
    results[1].note = f"{rectangle / (rows + shared):.1f} times the memory"
    return results


def encoder(arguments: Any) -> list[Result]:
    """Compare `MultimodalEncoder` with calling its encoder, on texts that are new in each round.

    Useful work with a SentenceTransformer: 2 operations a weight of its linear layers and real
    token. Without one (``--encoder``) the default text encoder is taken; its work is reading the
    texts and writing the vectors.
    """
    n, rng = arguments.items, np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(5000)])
    length = rng.integers(10, 60, size=n)  # words of a short plot

    def texts() -> list[str]:
        parts = np.split(words[rng.integers(5000, size=length.sum())], np.cumsum(length)[:-1])
        return [" ".join(part) for part in parts]

    work, work_of = sum(map(len, texts())) + 4.0 * n * 128, BYTES
    if arguments.encoder is None:
        from skmars.encoding import TfidfEncoder

        model: Any = TfidfEncoder()
    else:
        import torch

        from skmars.encoding._torchvision import repair_torchvision

        repair_torchvision()  # a build for another torch would break the next import
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(arguments.encoder, device="cpu")
        linear = (m for m in model.modules() if isinstance(m, torch.nn.Linear))
        tokens = sum(len(ids) for ids in model.tokenizer(texts())["input_ids"])
        work, work_of = 2.0 * sum(m.weight.numel() for m in linear) * tokens, FLOPS
    catalog = ItemCatalog(np.arange(n), content={"text": texts()})
    multimodal = MultimodalEncoder({"text": model}, batch_size=arguments.encoder_batch)

    def renew() -> None:  # what was encoded once is in the cache
        nonlocal catalog
        catalog = ItemCatalog(np.arange(n), content={"text": texts()})

    def direct() -> None:
        content = catalog.content["text"].tolist()
        if arguments.encoder is None:
            model.fit(content).transform(content)
        else:
            model.encode(content, batch_size=arguments.encoder_batch)

    contenders = {
        "encoder itself": direct,
        "skmars": lambda: multimodal.fit(catalog),
        "skmars, second fit": lambda: multimodal.fit(catalog),
    }
    name = f"encoder ({type(model).__name__}, {n:,} texts)"
    results = compare(name, contenders, arguments.repeats, work=work, work_of=work_of, before=renew)
    results[2].share = None
    results[2].note = f"{multimodal.n_encoded_['text']} texts encoded"
    return results


def aligner_flops(X: Any, width: int, id_dim: int, window: int) -> float:
    """Return the operations in matrix products that one epoch of `SteinAligner` cannot do without.

    One pass over each user's longest history serves all rows. With d = `width`, i = `id_dim` and
    s(t) = min(t, window) positions seen from position t, forward: 8 i^2 + 4 i s for the
    self-attention of the ids (Eq. 4: queries, keys, values, output; scores and weighted sum),
    8 d^2 + 4 d s for image over text (Eq. 9) and as much for the item factors over both,
    4 d^2 + 4 i d + 4 d s over the ids (Eq. 11), 8 d^2 for the feed-forward (Eq. 12); per row the
    target as a sequence of one item; per item its projections (Eq. 3). Training is three times
    that. `L_Stein`, norms and the optimiser do not count.
    """
    longest = np.zeros(len(X.users), dtype=np.int64)
    np.maximum.at(longest, X.user, X.history.length)
    inside = np.minimum(longest, window)
    seen = (inside * (inside + 1) / 2 + (longest - inside) * window).sum()
    products = 8 * id_dim**2 + 28 * width**2 + 4 * id_dim * width
    positions = float(longest.sum()) + len(np.unique(X.target))
    items = 2.0 * len(X.catalog) * sum(FEATURES.values()) * width
    return 3 * (positions * products + seen * (4 * id_dim + 12 * width) + items)


def aligner(arguments: Any) -> list[Result]:
    """Compare one epoch of the causal pass with the row-by-row form (``--no-rowwise``: alone)."""
    data, X, y = _load(arguments)
    X = with_features(X, FEATURES)

    def epoch(causal: bool) -> Callable[[], Any]:
        model = SteinAligner(
            arguments.width,
            id_dim=arguments.width // 2,
            causal=causal,
            max_length=arguments.max_length,
            max_iter=1,
            random_state=0,
            device="cpu",
        )
        return lambda: model.fit(X, y)

    contenders = {"skmars, causal": epoch(True)}
    if arguments.rowwise:
        contenders["skmars, row by row"] = epoch(False)
    work = aligner_flops(X, arguments.width, arguments.width // 2, arguments.max_length)
    name = f"aligner ({data}, {len(X):,} rows)"
    results = compare(name, contenders, arguments.repeats, work=work)
    for result in results:
        result.note = f"{len(X) / median(result.seconds):,.0f} rows/s"
    return results


FITS = """
import time
from skmars import DINClassifier, make_multimodal_ctr
X, y = make_multimodal_ctr(50, 50, random_state=0)
for _ in range(2):
    begin = time.perf_counter()
    DINClassifier(item_features=None, max_iter=1, device="cpu").fit(X, y)
    print(time.perf_counter() - begin)
"""


def imports(arguments: Any) -> list[Result]:
    """Time import statements, and the first and second small fit, in fresh processes."""

    def fresh(code: str) -> list[float]:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [float(line) for line in done.stdout.split()]

    timed = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
    statements = ("import sklearn", "import sklearn, skmars", "from skmars import DINClassifier")
    results = [Result("import", s) for s in statements]
    fits = [Result("first fit", "second fit of a process"), Result("first fit", "first fit")]
    for _ in range(arguments.repeats):
        for result in results:
            result.seconds += fresh(timed.format(result.contender))
        first, second = fresh(FITS)
        fits[0].seconds.append(second)
        fits[1].seconds.append(first)
    for rows in (results, fits):
        for result in rows[1:]:
            beyond = median(result.seconds) - median(rows[0].seconds)
            result.note = f"{beyond:+.2f} s beyond {rows[0].contender}"
    return results + fits


GRID = {
    "align__lam": [0.03, 0.1, 0.3],
    "align__beta": [0.03, 0.1, 0.3],
    "augment__theta": [0.0, 0.2, 0.4],
}


def grid(arguments: Any) -> list[Result]:
    """Compare a grid search with ``memory=`` with the distinct fits done by hand.

    By hand: 9 aligners, and for each three augmenters and classifiers, scored on the held-out
    rows: no hashing, no pickles, nothing that is not needed. Both encode the catalogue once.
    """
    X, y = make_multimodal_ctr(arguments.users, arguments.items, random_state=0)
    train, valid, _ = leave_last_out(X)
    cv = [(train, valid)]
    epochs: dict[str, Any] = {"max_iter": 5, "random_state": 0, "device": "cpu"}

    def steps() -> dict[str, Any]:
        return {
            "encode": MultimodalEncoder(),
            "align": SteinAligner(64, id_dim=32, **epochs),
            "augment": SequenceRetrievalAugmenter(),
            "ctr": DINClassifier(early_stopping=False, **epochs),
        }

    def search() -> None:
        with tempfile.TemporaryDirectory() as folder:
            mars = Pipeline(list(steps().items()), memory=folder)
            GridSearchCV(mars, GRID, cv=cv, scoring="roc_auc", refit=False).fit(X, y)

    def by_hand() -> None:
        encoded = prepared(steps()["encode"], (X[train], X[valid]))
        for lam, beta in product(GRID["align__lam"], GRID["align__beta"]):
            align = steps()["align"].set_params(lam=lam, beta=beta)
            rows = prepared(align, encoded, y[train])
            for theta in GRID["augment__theta"]:
                augment = steps()["augment"].set_params(theta=theta)
                X_train, X_valid = prepared(augment, rows)
                steps()["ctr"].fit(X_train, y[train]).predict_proba(X_valid)

    by_hand()  # the cache of encoded items is warm for both
    name = f"grid ({len(X):,} rows, 3 x 3 x 3)"
    contenders = {"distinct fits": by_hand, "GridSearchCV, memory": search}
    return compare(name, contenders, arguments.repeats)
