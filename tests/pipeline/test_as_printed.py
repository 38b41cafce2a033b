"""``make_mars("paper")`` computes what the paper prints: each equation against plain NumPy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skmars import Impressions, leave_last_out, make_mars, make_multimodal_ctr
from skmars.alignment import _stein
from skmars.alignment._clicks import click_objective, continued_encoder
from skmars.pipeline._mars import AS_PRINTED

from . import reference

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SMALL = {
    "align__n_components": 12, "align__id_dim": 8, "align__max_iter": 3, "ctr__max_iter": 4,
    "align__learning_rate": 1e-2, "align__max_length": 6, "augment__theta": 0.05,
}  # fmt: skip


class World:
    """A fitted paper variant, its rows, and the reference on its weights."""

    def __init__(self, history: str) -> None:
        X, y = make_multimodal_ctr(n_users=50, n_items=30, history=history, random_state=0)
        train, _, test = leave_last_out(X)
        self.X, self.y, self.X_test = X[train], y[train], X[test]
        mars = make_mars("paper", random_state=0, **SMALL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # few rows to stop early by
            mars.fit(self.X, self.y)
        self.encode, self.align, self.augment, self.din = mars.named_steps.values()
        self.mars, self.encoder = mars, self.align.encoder_
        self.encoded = self.encode.transform(self.X)
        self.aligned = self.align.transform(self.encoded)
        self.items = reference.Items(self.encoder, self.encoded.catalog)
        self.tested = mars[:2].transform(self.X_test)

    def users(self, X: Impressions) -> np.ndarray:
        return np.array([self.items.user(reference.history(X, row)) for row in range(len(X))])

    def catalog(self) -> np.ndarray:
        return np.array([self.items.item(code) for code in range(len(self.X.catalog))])

    def objective(self, dtype: torch.dtype = torch.float64) -> Any:
        made = click_objective(self.encoded, self.y.astype(np.float32), self.encoder, self.align,
                               (0, 0))  # fmt: skip
        made.network.to(dtype).eval()
        return made


@pytest.fixture(scope="module")
def world() -> World:
    return World("positive")


def test_the_parameters_are_those_that_differ_from_the_default() -> None:
    default, printed = make_mars().get_params(), make_mars("paper").get_params()
    assert {k for k in AS_PRINTED if default[k] != AS_PRINTED[k]} == set(AS_PRINTED)
    steps = {"encode", "align", "augment", "ctr", "steps"}
    different = {k for k in default if k not in steps and default[k] != printed[k]}
    assert different == set(AS_PRINTED)


def test_projections_and_attention(world: World) -> None:  # Eq. 3, 4, 9-12
    made = world.objective()
    net = made.network
    seen: dict[str, Any] = {}
    parts = {"4": net.id_attention.out, "10": net.fusion_norms[0], "11": net.id_fusion.out}
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name, layer in parts.items()
    ]
    row = int(np.argmax(world.X.history.length))
    with torch.no_grad():
        (batch,) = made._batches(np.array([row]))
        one = made._pass(batch)
        score, items = one.log_odds(), one._items.projected(net, slice(None))
    for hook in hooks:
        hook.remove()
    codes = [*reference.history(world.X, row)[-5:], int(world.X.target[row])]
    distinct = np.unique(codes)
    for modality, found in zip(("text", "image"), items.projected):
        expected = [world.items.projection(modality, code) for code in distinct]
        np.testing.assert_allclose(found.numpy(), expected, **CLOSE)
    np.testing.assert_allclose(seen["4"].numpy(), world.items.self_attention(codes), **CLOSE)
    np.testing.assert_allclose(seen["10"].numpy(), world.items.fused(codes), **CLOSE)
    np.testing.assert_allclose(seen["11"].numpy(), world.items.multimodal(codes), **CLOSE)
    assert float(score) == pytest.approx(world.items.score(codes[:-1], codes[-1]), abs=1e-5)


def test_users_and_items(world: World) -> None:  # Eq. 13, and items in a sequence of their own
    np.testing.assert_allclose(world.aligned.user_embedding, world.users(world.X), **CLOSE)
    np.testing.assert_allclose(world.aligned.catalog.embedding, world.catalog(), **CLOSE)


def test_loss(world: World) -> None:  # Eq. 5-8, 12 and the total
    made, X = world.objective(), world.X
    for batch in list(made.batches(0))[:3]:
        with torch.no_grad():
            found = float(made.loss(batch))
            items = made._pass(batch)._items.projected(made.network, slice(None))
        rows = batch[1]
        windows = [reference.history(X, r)[-5:] if X.history.length[r] else [] for r in rows]
        scores = [world.items.score(h, X.target[r]) for h, r in zip(windows, rows)]
        codes = sorted({int(c) for h in windows for c in h} | set(X.target[rows].tolist()))
        text, image = (
            np.array([world.items.projection(m, c) for c in codes]) for m in ("text", "image")
        )
        gamma = reference.bandwidth(text, image)
        t, v = items.projected
        assert float(_stein.median_bandwidth(t, v)) == pytest.approx(gamma, rel=1e-5)
        l_align = float(_stein.kernel_alignment(t, v, gamma))
        assert l_align == pytest.approx(reference.l_align(text, image, gamma), rel=1e-5)
        s = _stein.stein_score(t, gamma, eta=0.1)
        np.testing.assert_allclose(s, reference.score_estimate(text, gamma, 0.1), **CLOSE)
        l_entropy = float(_stein.entropy_surrogate(t, s)) * t.shape[1]
        assert l_entropy == pytest.approx(reference.l_entropy(text, gamma, 0.1), rel=1e-5)
        l_stein = float(made.stein(items.projected, items.present))
        assert l_stein == pytest.approx(reference.l_stein(text, image, 0.1, 0.1), rel=1e-5)
        total = reference.l_ctr(scores, made._y[rows]) + 0.1 * l_stein  # beta
        assert found == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("rows", ["training", "new"])
def test_what_is_borrowed(world: World, rows: str) -> None:  # Eq. 15-18
    # All cosines are near 1 without centring: a theta that leaves some items out, in a wide gap.
    every = np.unique(world.augment.transform(world.tested).borrowed.similarity).astype(float)
    middle = every[len(every) // 4 : -len(every) // 4]
    widest = int(np.argmax(np.diff(middle)))
    theta = float(middle[widest : widest + 2].mean())
    augmenter = clone(world.augment).set_params(theta=theta).fit(world.aligned)
    X = world.aligned if rows == "training" else world.tested
    retrieval = reference.Retrieval(world.X, world.users(world.X), world.catalog(), theta)
    assert world.augment.donor_ids_.tolist() == [user for user, *_ in retrieval.donors]
    assert not world.augment.user_center_.any()
    assert not world.augment.item_center_.any()
    if rows == "training":
        Z = world.align.fit_transform(world.encoded, world.y)  # the same fit once more
        fold = dict(zip(Z.user_ids.tolist(), Z.fold.tolist()))
        found = augmenter.fit_transform(Z)
    else:
        fold = None
        found = augmenter.transform(X)
    b, ids, n = found.borrowed, found.catalog.ids, 0
    vectors = world.users(X)
    for row in range(len(X)):
        user = X.user_ids[row]
        asked = (lambda d: fold[d] != fold[user]) if fold else (lambda d: d != user)  # noqa: B023
        expected = retrieval.borrow(X, row, vectors[row], asked)
        at = slice(b.start[row], b.start[row] + b.length[row])
        assert ids[b.items[at]].tolist() == [X.catalog.ids[i] for i, *_ in expected]
        assert b.donors[b.donor[at]].tolist() == [donor for _, donor, *_ in expected]
        for array, column in ((b.similarity, 2), (b.donor_similarity, 3)):
            np.testing.assert_allclose(array[at], [e[column] for e in expected], **CLOSE)
        n += len(expected)
    assert n > 10
    if rows == "new":
        assert n < world.augment.transform(X).borrowed.length.sum()


def test_din_reads_borrowed_and_own_items_as_one_history(world: World) -> None:
    X = world.tested
    retrieval = reference.Retrieval(
        world.X, world.users(world.X), world.catalog(), world.augment.theta
    )
    logit = world.mars.decision_function(world.X_test)
    vectors = world.users(X)
    for row in range(len(X)):
        user = X.user_ids[row]
        borrowed = retrieval.borrow(X, row, vectors[row], lambda d: d != user)  # noqa: B023
        sequence = reference.concatenated(borrowed, reference.history(X, row))
        ids = X.catalog.ids[sequence].tolist()
        expected = reference.din_logit(world.din, ids, X.item_ids[row].item())
        assert logit[row] == pytest.approx(expected, abs=1e-5)


def test_the_aligned_space_does_not_reach_the_default_pipeline() -> None:
    """Its switches are not turned in `benchmarks.as_printed`: predictions are the same."""
    X, y = make_multimodal_ctr(n_users=50, n_items=30, random_state=0)
    small = {"align__n_components": 8, "align__id_dim": 4, "align__max_iter": 1, "ctr__max_iter": 1}
    names = ["entropy", "normalize", "click_score", "residual", "causal", "dropout", "batch_size"]

    def scores(**params: Any) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            mars = make_mars(random_state=0, **small, **params).fit(X, y)
        return mars.decision_function(X)

    changed = {f"align__{name}": AS_PRINTED[f"align__{name}"] for name in names}
    np.testing.assert_array_equal(scores(**changed), scores())


def test_continued_encoder_keeps_how_clicks_are_scored(world: World) -> None:
    network = continued_encoder(world.encoder, world.encoded).network
    assert (network.click_score, network.normalize) == ("network", False)
