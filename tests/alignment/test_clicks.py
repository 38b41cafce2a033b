"""The objective on impressions, against the loss written down row by row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from skmars import Impressions, ItemCatalog
from skmars.alignment._clicks import ClickObjective, continued_encoder, occurring_items
from skmars.alignment._encoder import AlignmentEncoder
from skmars.alignment._learning import Sampling
from skmars.alignment._stein import SteinObjective

from .reference import (
    MODALITIES,
    encode,
    project,
    random_encoder,
    target_score,
    user_embeddings,
    world,
)

CPU = torch.device("cpu")
STEIN = SteinObjective(0.3, "maximize", 0.1)


def objective(
    encoder: AlignmentEncoder, X: Impressions, y: np.ndarray, valid: np.ndarray | None = None
) -> ClickObjective:
    rows = np.arange(len(X))
    sampling = Sampling(rows, rows if valid is None else valid, 8, np.random.RandomState(0), CPU)
    made = ClickObjective(encoder, X, y.astype(np.float32), sampling, STEIN, beta=0.7)
    made.network.eval()
    return made


def logits_row_by_row(encoder: AlignmentEncoder, X: Impressions) -> torch.Tensor:
    users = torch.tensor(user_embeddings(encoder, X), dtype=torch.float32)
    shown = torch.cat([encode(encoder, X.catalog, [code]) for code in X.target])
    return encoder.network.affinity(users, shown)


@pytest.mark.parametrize("history", ["all", "positive"])
@pytest.mark.parametrize("causal", [True, False])
def test_loss_is_cross_entropy_and_stein_over_the_items_of_the_batch(history, causal) -> None:
    X, y = world(2, history=history)
    encoder = random_encoder(X, causal=causal)
    made = objective(encoder, X, y)
    logits = logits_row_by_row(encoder, X)
    for segment, row in made.batches(0):
        # A pass serves whole segments: what it looks at is what their rows' histories hold.
        whole = np.flatnonzero(np.isin(made._segments.segment, segment))
        histories = [X.history.row(r)[-4 if not causal else 0 :] for r in whole]
        codes = np.unique(np.concatenate([X.target[row], *histories]))
        views = [torch.stack(view) for view in
                 zip(*(project(encoder, X.catalog, code) for code in codes))]  # fmt: skip
        present = [torch.from_numpy(~X.catalog.missing[m][codes]) for m in ("text", "image")]
        expected = F.binary_cross_entropy_with_logits(
            logits[row], torch.tensor(y[row], dtype=torch.float32)
        ) + 0.7 * STEIN(views, present)
        torch.testing.assert_close(made.loss((segment, row)), expected, rtol=1e-4, atol=1e-5)


@given(
    st.integers(0, 10_000),
    st.sampled_from(["all", "positive"]),
    st.sampled_from(MODALITIES),
    st.booleans(),
    st.booleans(),
    st.integers(1, 12),
)
def test_the_network_scores_the_target_behind_its_history(
    seed, history, modalities, causal, residual, max_length
) -> None:
    X, y = world(seed, history=history)
    encoder = random_encoder(
        X,
        modalities,
        seed=seed,
        causal=causal,
        residual=residual,
        max_length=max_length,
        click_score="network",
    )
    made = objective(encoder, X, y)
    found = np.full(len(X), np.nan, dtype=np.float32)
    for batch in made.batches(0):
        found[batch[1]] = made._pass(batch).log_odds().numpy()
    expected = [target_score(encoder, X, row) for row in range(len(X))]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


def test_the_network_does_not_see_the_answer_nor_what_follows() -> None:
    X, y = world(2)
    encoder = random_encoder(X, click_score="network")
    feedback = X.history.feedback.copy()
    row = int(np.argmax(X.history.length))
    end = X.history.start[row] + X.history.length[row]
    feedback[end:] ^= 1  # of the row's target, and of what comes later
    other = replace(X, history=replace(X.history, feedback=feedback))
    scores = []
    for rows in (X, other):
        made = objective(encoder, rows, y)
        batch = next(b for b in made.batches(0) if row in b[1])
        scores.append(made._pass(batch).log_odds()[list(batch[1]).index(row)])
    assert scores[0] == scores[1]


def test_validation_score_is_the_auc_of_the_rows_set_aside() -> None:
    X, y = world(2)
    encoder = random_encoder(X)
    valid = np.arange(3, 15)
    logits = logits_row_by_row(encoder, X[valid]).detach()
    score = objective(encoder, X, y, valid=valid).evaluate()
    assert score == pytest.approx(roc_auc_score(y[valid], logits))
    likes = valid[y[valid] == 1]
    expected = F.logsigmoid(logits_row_by_row(encoder, X[likes]).detach()).mean()
    score = objective(encoder, X, y, valid=likes).evaluate()
    assert score == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("modalities", [(), ("text",), ("text", "image", "audio")], ids=len)
def test_gradients_of_the_loss_are_finite(modalities) -> None:
    X, y = world(2, n_events=40)
    made = objective(random_encoder(X, modalities), X, y)
    made.network.train()
    for batch in made.batches(0):
        made.loss(batch).backward()
    used = [p for p in made.network.parameters() if p.grad is not None]
    assert used
    assert all(torch.isfinite(p.grad).all() for p in used)
    assert any(p.grad.abs().sum() > 0 for p in used)


def test_an_item_that_lacks_a_modality_has_no_say_in_alignment() -> None:
    X, _ = world(2)
    encoder = random_encoder(X)
    items = encoder.inputs(X.catalog).take(np.arange(len(X.catalog)), encoder.network, CPU)
    for projected in items.projected:
        projected.retain_grad()
    STEIN(items.projected, items.present).backward()
    lacking = ~(items.present[0] & items.present[1])
    assert lacking.any()
    for projected in items.projected:
        assert not projected.grad[lacking].any()
        assert projected.grad[~lacking].any(dim=1).all()


@given(st.integers(0, 10_000))
def test_occurring_items_are_those_of_targets_and_histories(seed) -> None:
    X, _ = world(seed, n_items=30)
    X = X[np.random.default_rng(seed).permutation(len(X))[: seed % 21]]
    expected = set(X.target.tolist()).union(*(X.history.row(r).tolist() for r in range(len(X))))
    assert occurring_items(X).tolist() == sorted(expected)


def test_features_are_standardised_by_the_items_that_occur_and_have_them() -> None:
    X, _ = world(2, n_items=30)
    catalog = X.catalog
    there = np.intersect1d(occurring_items(X), np.flatnonzero(~catalog.missing["text"]))
    assert 0 < len(there) < 20
    projection = random_encoder(X).network.projections[0]
    features = catalog.features["text"][there].astype(np.float64)
    np.testing.assert_allclose(projection.mean, features.mean(0), rtol=1e-5)
    spread = np.sqrt(((features - features.mean(0)) ** 2).mean())
    np.testing.assert_allclose(projection.spread, spread, rtol=1e-5)


def test_features_that_never_vary_or_that_all_items_lack() -> None:
    X, _ = world(2)
    n = len(X.catalog)
    features = {"text": np.full((n, 2), 3.0), "image": np.zeros((n, 2))}
    catalog = ItemCatalog(X.catalog.ids, features=features, missing={"image": np.ones(n, bool)})
    X = X.with_catalog(catalog)
    encoder = random_encoder(X)
    np.testing.assert_allclose(encoder(X), user_embeddings(encoder, X), rtol=1e-4, atol=1e-5)


def test_a_continued_encoder_knows_old_and_new_items_and_leaves_the_old_one_alone() -> None:
    X, _ = world(2)
    encoder = random_encoder(X[:4])
    before, expected = encoder.items.ids.tolist(), encoder(X)
    continued = continued_encoder(encoder, X)
    assert continued.items.ids[: len(before)].tolist() == before
    assert set(continued.items.ids) == set(X.catalog.ids[occurring_items(X)])
    np.testing.assert_allclose(continued(X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(encoder(X), expected)
