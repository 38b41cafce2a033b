"""The auxiliary objectives: views, losses against plain loops, and DIN with them."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV
from torch.nn import functional as F

import skmars.baselines
from skmars import DINClassifier
from skmars.baselines import BASRec, CL4SRec, CoSeRec, _contrastive
from skmars.baselines._contrastive import ViewEncoder, nt_xent
from skmars.baselines._mixup import row_weights
from skmars.baselines._similarity import hybrid_nearest, item_cf_iuf, user_sequences
from skmars.baselines._views import ItemChoice, same_length_view
from skmars.ctr._batches import Batch, RaggedItems
from skmars.ctr._network import to_tensors
from skmars.data import Sequences
from skmars.utils import _ragged as ragged

from . import reference
from .test_transformers import make_data

OBJECTIVES = [CL4SRec(), CL4SRec(encoder="pool", mask_token=True), CoSeRec(warm_up=0), BASRec()]
each_objective = pytest.mark.parametrize("auxiliary", OBJECTIVES, ids=repr)
N_CODES = 20


def din(**parameters) -> DINClassifier:
    small = {"embedding_dim": 4, "attention_units": (6,), "hidden_units": (6,), "max_iter": 2}
    return DINClassifier(**{**small, "random_state": 0, **parameters})


def lend(X):
    """Some borrowed items for every other row."""
    length = (np.arange(len(X)) % 2 * 2).astype(np.int32)
    items = np.arange(3, dtype=np.int32)
    return X.with_borrowed(Sequences(items, np.zeros(len(X), dtype=np.int64), length))


@pytest.fixture(scope="module")
def data():
    X, y = make_data()
    return lend(X), y


def batch_of(rows: list[list[int]]) -> Batch:
    """A batch of these histories, in item codes; feedback tells positions apart."""
    length = np.array([len(row) for row in rows])
    items = np.array([x for row in rows for x in row], dtype=np.int64)
    at = np.arange(len(items))
    bag = RaggedItems(items, np.repeat(np.arange(len(rows)), length), length, at, at + 1000)
    everything = np.arange(N_CODES)
    nothing = np.zeros((len(rows), 0))
    return Batch(nothing, nothing, everything + 1, everything, length * 0, length, bag)


def rows_of(view) -> list[list[tuple[int, int, bool]]]:
    """(item code, position in the batch, masked) of each history."""
    assert np.array_equal(view.feedback + 1000, view.borrowed)
    assert np.array_equal(view.items, view.codes + 1)
    values = list(zip(view.codes[view.item].tolist(), view.feedback.tolist(), view.masked == 1))
    ends = ragged.offsets(view.length)
    return [values[a:b] for a, b in zip(ends[:-1], ends[1:])]


HISTORIES = st.lists(st.lists(st.integers(0, N_CODES - 1), max_size=7), min_size=1, max_size=6)


def outcomes(name: str, row: list, share: float, like) -> list:
    """What an operator may give of a row of (item, position); masked items are deleted."""
    found = []
    for new in getattr(reference, name)(row, share):
        kept = [e for e in new if e != reference.MASK]
        found.append([(like[e[1][0]], e[1][1]) if e[0] == "like" else e for e in kept])
    return found


def check_views(auxiliary, rows, seed, like) -> None:
    X, _ = make_data()
    objective = auxiliary.objective(X, np.arange(N_CODES) + 1, 4)
    objective.choice = ItemChoice(np.arange(N_CODES) + 1, like)
    batch = batch_of(rows)
    view = objective.draw(batch, np.random.RandomState(seed))
    kept = [i for i, row in enumerate(rows) if row]
    assert view.row.tolist() == kept
    first, second = np.split(np.array(rows_of(view), dtype=object), 2) if kept else ([], [])
    begin = ragged.offsets(batch.length)
    for i, a, b in zip(kept, first, second, strict=True):
        row = [(x, begin[i] + k) for k, x in enumerate(rows[i])]
        share = auxiliary.get_params()
        names = ["crop", "mask", "reorder"]
        if isinstance(auxiliary, CoSeRec):
            names = ["mask", "substitute", "insert"]
            names += ["crop", "reorder"] if len(row) > auxiliary.short else []
        elif len(row) <= 1:
            names = []
        ways = []
        for found in (a, b):
            pairs = [(item, at) for item, at, _ in found]
            if not names:
                assert pairs == row
            ways.append({n for n in names if pairs in outcomes(n, row, share[n], like)})
        # Two different operators explain the two views.
        assert not names or (ways[0] and ways[1] and len(ways[0] | ways[1]) > 1)


@given(rows=HISTORIES, seed=st.integers(0, 99))
def test_views_of_cl4srec(rows, seed):
    check_views(CL4SRec(encoder="pool"), rows, seed, np.arange(N_CODES))


@given(rows=HISTORIES, seed=st.integers(0, 99))
def test_views_of_coserec(rows, seed):
    check_views(CoSeRec(encoder="pool"), rows, seed, (np.arange(N_CODES) + 5) % N_CODES)


def test_views_read_the_last_items_only_and_stay_short():
    X, _ = make_data()
    auxiliary = CoSeRec(max_length=5, insert=1.0, mask=0.0)
    objective = auxiliary.objective(X, np.arange(len(X.catalog)) + 1, 4)
    view = objective.draw(batch_of([list(range(12))] * 50), np.random.RandomState(0))
    assert view.length.max() == 5
    assert (view.feedback % 12).min() >= 7


def test_a_mask_token_keeps_the_place():
    X, _ = make_data()
    auxiliary = CL4SRec(mask_token=True, crop=1.0, reorder=0.0, mask=0.5)
    objective = auxiliary.objective(X, np.arange(len(X.catalog)) + 1, 4)
    view = objective.draw(batch_of([[1, 2, 3, 4]] * 30), np.random.RandomState(0))
    masked = [sum(m for *_, m in row) for row in rows_of(view)]
    assert (view.length == 4).all()
    assert set(masked) == {0, 2}


# --- losses against loops ----------------------------------------------------------------------


@given(n=st.integers(1, 5), seed=st.integers(0, 99), weighted=st.booleans())
def test_nt_xent_against_a_loop(n, seed, weighted):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, n, 3))
    weight = rng.uniform(0.5, 2, n) if weighted else None
    found = nt_xent(
        *map(torch.tensor, (first, second)), 0.7, torch.tensor(weight) if weighted else None
    )
    assert float(found) == pytest.approx(reference.nt_xent(first, second, 0.7, weight), abs=1e-9)


@pytest.mark.parametrize("block", [1, 20, 1 << 20])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_nt_xent_is_that_of_its_formula(block, weighted, monkeypatch):
    monkeypatch.setattr(_contrastive, "BLOCK_NUMBERS", block)  # of 8 views: 1, 2 or all at a time
    torch.manual_seed(0)
    first, second = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True).unbind()
    weight = torch.tensor([1.0, 0.0, 3.0, 0.5], dtype=torch.float64) if weighted else None

    def formula(first, second):
        similarity = torch.cat([first, second]) @ torch.cat([first, second]).T / 0.3
        similarity = similarity.masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
        terms = -similarity.log_softmax(1)[range(8), [4, 5, 6, 7, 0, 1, 2, 3]]
        w = torch.ones(8, dtype=torch.float64) if weight is None else weight.repeat(2)
        return (w * terms).sum() / w.sum()

    results = [
        (loss, *torch.autograd.grad(2 * loss, (first, second)))
        for loss in (nt_xent(first, second, 0.3, weight), formula(first, second))
    ]
    torch.testing.assert_close(*results)


def test_similarities_may_be_large():
    z = torch.tensor([[300.0, 0.0], [0.0, 300.0], [200.0, 0.0]], requires_grad=True)
    loss = nt_xent(z, z.flip(0))
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()


def test_nt_xent_without_negatives_or_pairs_or_weight_is_zero():
    assert float(nt_xent(torch.ones(1, 3), torch.ones(1, 3))) == 0
    assert float(nt_xent(torch.ones(0, 3), torch.ones(0, 3))) == 0
    assert float(nt_xent(torch.eye(2), torch.eye(2), weight=torch.zeros(2))) == 0


def test_weight_two_counts_a_term_twice():
    first, second = torch.randn(2, 3, 4)
    twice = nt_xent(first, second, weight=torch.tensor([2.0, 2.0, 2.0]))
    assert float(twice) == pytest.approx(float(nt_xent(first, second)))


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_a_history_is_encoded_alone_or_among_others(n_layers):
    torch.manual_seed(0)
    encoder = ViewEncoder(4, 9, n_layers, token=False)
    length = torch.tensor([3, 1, 7, 2])
    x = torch.randn(13, 4)
    masked = torch.zeros(13, dtype=torch.int64)
    together = encoder(x, length, masked)
    for part, expected in zip(x.split(length.tolist()), together, strict=True):
        alone = encoder(part, torch.tensor([len(part)]), masked[: len(part)])
        torch.testing.assert_close(alone[0], expected)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_the_encoder_is_a_causal_transformer_of_torch(n_layers):
    torch.manual_seed(0)
    encoder = ViewEncoder(4, 9, n_layers, token=False).double()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter)
    length = torch.tensor([3, 1, 7, 2])
    x = torch.randn(13, 4, dtype=torch.float64, requires_grad=True)

    def alone(part):
        placed = part + encoder.position[: len(part)].flip(0)
        future = torch.ones(len(part), len(part), dtype=torch.bool).triu(1)
        return encoder.tower(placed[None], mask=future)[0, -1]

    inputs = [x, *encoder.parameters()]
    found = encoder(x, length, torch.zeros(13))
    expected = torch.stack([alone(part) for part in x.split(length.tolist())])
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(z.sin().sum(), inputs) for z in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("n_layers", "sees_order"), [(0, False), (1, True)])
def test_only_attention_sees_the_order(n_layers, sees_order):
    torch.manual_seed(0)
    encoder = ViewEncoder(4, 9, n_layers, token=False)
    x, length, masked = torch.randn(5, 4), torch.tensor([5]), torch.zeros(5)
    same = torch.allclose(encoder(x, length, masked), encoder(x[[1, 0, 3, 2, 4]], length, masked))
    assert same != sees_order


def test_the_token_hides_what_is_masked():
    encoder = ViewEncoder(4, 9, 1, token=True)
    x, length, masked = torch.randn(3, 4), torch.tensor([3]), torch.tensor([0, 1, 0])
    other = x.clone()
    other[1] = 7.0
    torch.testing.assert_close(encoder(x, length, masked), encoder(other, length, masked))
    # The sum of all units would be that of a layer norm, whatever comes in.
    encoder(x, length, masked)[0, 0].backward()
    assert encoder.token.grad.abs().sum() > 0


@given(rows=HISTORIES, seed=st.integers(0, 99))
def test_same_length_views_are_reordered_or_substituted(rows, seed):
    like = (np.arange(N_CODES) + 5) % N_CODES
    batch = batch_of(rows)
    rate = np.random.default_rng(seed).uniform(0.2, 0.51, len(rows))
    choice = ItemChoice(np.arange(N_CODES) + 1, like)
    found = rows_of(same_length_view(batch, rate, choice, np.random.RandomState(seed)))
    begin = ragged.offsets(batch.length)
    for i, new in enumerate(found):
        row = [(x, begin[i] + k) for k, x in enumerate(rows[i])]
        allowed = [[]]
        if row:
            allowed = [
                r for n in ("reorder", "substitute") for r in outcomes(n, row, rate[i], like)
            ]
        assert [(item, at) for item, at, _ in new] in allowed


each_reweighting = pytest.mark.parametrize("reweighting", ["batch", "row"])


@each_reweighting
@given(st.lists(st.tuples(st.floats(1e-30, 1), st.floats(0.2, 0.51)), min_size=1, max_size=6))
def test_weights_of_rows_with_mixed_histories(reweighting, pairs):
    found = row_weights(*np.array(pairs).T, reweighting)
    np.testing.assert_allclose(found, reference.basrec_weights(*zip(*pairs), reweighting))


def test_no_row_is_silent_unless_each_counts_its_own_weight(data):
    """A row that counts less than a hundredth of the mean says nothing."""
    silent = {}
    for reweighting in ("batch", "row"):
        _, batch, _, _, loss, _ = trained_parts(BASRec(reweighting=reweighting), data)
        draws = [loss.draw(batch, np.random.RandomState(i)) for i in range(20)]
        weights = np.array([part.weight for d in draws for part in (d.first, d.second)])
        mean = weights.mean(axis=1, keepdims=True)
        silent[reweighting] = (weights < mean / 100).mean()
        assert (weights.sum(axis=1) >= 1).all()
    assert silent["batch"] == 0
    assert silent["row"] > 0.5


def test_the_two_views_and_the_two_partners_are_drawn_apart(data):
    _, batch, _, _, loss, _ = trained_parts(BASRec(), data)
    drawn = loss.draw(batch, np.random.RandomState(0))
    assert (drawn.first.share != drawn.second.share).all()
    views = drawn.first.view, drawn.second.view
    assert not np.array_equal(*(view.codes[view.item] for view in views))
    assert (drawn.by_row.other != drawn.by_unit.other).any()
    assert drawn.by_row.share.shape == (40, 1)
    assert drawn.by_unit.share.shape == (40, loss.width)


def trained_parts(auxiliary, data, **parameters):
    """A network, a batch of arrays and of tensors, labels and the objective."""
    X, y = data
    model = din(activation="prelu", max_iter=1, **parameters).fit(X, y)
    network, rows = model._network.train(), model._encoder.encode(X)
    batch = rows.batch(np.arange(40))
    objective = auxiliary.objective(X, rows.table_rows.all(), network.item_dim)
    network.attach(objective.module)
    for p in network.parameters():  # far from the tiny initial embeddings
        p.data += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    tensors = to_tensors(batch, torch.device("cpu"), torch.float32)
    return network, batch, tensors, torch.tensor(y[:40], dtype=torch.float32), objective, rows


@each_reweighting
@pytest.mark.parametrize("weighted", [False, True])
def test_mixup_against_a_loop_over_rows(data, weighted, reweighting):
    auxiliary = BASRec(0.5, reweighting=reweighting)
    network, batch, tensors, y, objective, rows = trained_parts(auxiliary, data)
    drawn = objective.draw(batch, np.random.RandomState(3))
    d = to_tensors(drawn, torch.device("cpu"), torch.float32)
    w = torch.linspace(0.5, 1.5, 40) if weighted else None
    loss = objective.loss(network, tensors, {}, y, w, network.represent(tensors), d).detach()

    single = cross = by_unit = 0.0
    begin = ragged.offsets(batch.history.length)
    views = d.first.view, d.second.view
    changed = [network.keys(view.items, view.codes, view, {}) for view in views]
    seen = [
        network.represent(to_tensors(rows.batch(np.array([i])), y.device, y.dtype))
        for i in range(40)
    ]

    def bce(logit, label):
        return float(F.binary_cross_entropy_with_logits(logit[0], label).detach())

    for i in range(40):
        one = to_tensors(rows.batch(np.array([i])), y.device, y.dtype)
        for history, keys in zip((d.first, d.second), changed):
            part, lam = keys[begin[i] : begin[i + 1]], history.share[i]
            mixed = network.represent(one, mix=lambda k, a=lam, b=part: a * k + (1 - a) * b)
            weight = 1.0 if w is None else float(w[i])
            single += weight * float(history.weight[i]) * bce(network.score(mixed), y[i])
        for mixed_rows in (d.by_row, d.by_unit):
            j, lam = int(mixed_rows.other[i]), mixed_rows.share[i]
            mean = lam.mean()
            interest = lam * seen[i].interest + (1 - lam) * seen[j].interest
            target = lam * seen[i].target + (1 - lam) * seen[j].target
            head = replace(
                seen[i],
                interest=interest,
                target=target,
                product=interest * target,
                borrowed=lam * seen[i].borrowed + (1 - lam) * seen[j].borrowed,
                context=mean * seen[i].context + (1 - mean) * seen[j].context,
            )
            weight = 1.0 if w is None else float(mean * w[i] + (1 - mean) * w[j])
            value = weight * bce(network.score(head), mean * y[i] + (1 - mean) * y[j])
            if len(lam) == 1:
                cross += value
            else:
                by_unit += value
    assert float(loss) == pytest.approx(0.5 * (single + cross + by_unit) / 40, rel=1e-4)


@pytest.mark.parametrize("encoder", ["attention", "pool"])
def test_contrastive_loss_against_a_loop_over_histories(data, encoder):
    network, batch, tensors, y, objective, _ = trained_parts(CL4SRec(0.5, encoder=encoder), data)
    drawn = objective.draw(batch, np.random.RandomState(3))
    d = to_tensors(drawn, torch.device("cpu"), torch.float32)
    loss = objective.loss(network, tensors, {}, y, None, None, d).detach()
    vectors = []
    for a, b in zip(ragged.offsets(drawn.length)[:-1], ragged.offsets(drawn.length)[1:]):
        ids = torch.from_numpy(drawn.codes[drawn.item[a:b]])
        places = replace(
            d, item=torch.arange(b - a), feedback=d.feedback[a:b], borrowed=d.borrowed[a:b]
        )
        rows = torch.from_numpy(drawn.items[drawn.item[a:b]])
        key = network.keys(rows, ids, places, {})
        vectors.append(network.auxiliary(key, torch.tensor([b - a]), d.masked[a:b])[0])
    z = torch.stack(vectors).detach().numpy().astype(float)
    n = len(z) // 2
    assert float(loss) == pytest.approx(0.5 * reference.nt_xent(z[:n], z[n:]), rel=1e-4)


@each_objective
def test_gradients_reach_what_the_objective_trains(auxiliary, data):
    network, batch, tensors, y, objective, _ = trained_parts(auxiliary, data)
    objective.begin_epoch(0, network, {})
    d = to_tensors(objective.draw(batch, np.random.RandomState(0)), y.device, y.dtype)
    network.zero_grad()
    loss = objective.loss(network, tensors, {}, y, None, network.represent(tensors), d)
    loss.backward()
    touched = network.items.weight.grad.coalesce().indices()[0]
    assert len(touched) > 5
    assert network.items.weight.grad.coalesce().values().abs().sum() > 0
    if objective.module is not None:
        assert all(p.grad is not None for p in objective.module.parameters())
        assert network.head.output.weight.grad is None
    else:
        assert network.head.output.weight.grad.abs().sum() > 0


def test_coserec_finds_similar_items_anew_after_warm_up(data):
    network, *_, objective, rows = trained_parts(CoSeRec(warm_up=1), data)
    before = objective.choice.similar.copy()
    objective.begin_epoch(0, network, {})
    assert np.array_equal(objective.choice.similar, before)
    objective.begin_epoch(1, network, {})
    X = data[0]
    vectors = network.items(torch.from_numpy(rows.table_rows.all())).detach().numpy()
    together = item_cf_iuf(user_sequences(X), len(X.catalog))
    known = objective.choice.vocabulary
    expected = hybrid_nearest(together, vectors[known], known)
    assert np.array_equal(objective.choice.similar, expected)
    assert not np.array_equal(expected, before)


# --- DIN with them -------------------------------------------------------------------------------


@each_objective
@pytest.mark.parametrize("borrowed", ["separate", "marked", "joint"])
def test_fits_repeat_and_predict(auxiliary, borrowed, data):
    X, y = data
    model = din(auxiliary=auxiliary, borrowed=borrowed, batch_size=64)
    p = clone(model).fit(X, y).predict_proba(X)
    assert np.isfinite(p).all()
    np.testing.assert_array_equal(clone(model).fit(X, y).predict_proba(X), p)
    other = clone(model).set_params(auxiliary__weight=5.0).fit(X, y)
    assert not np.array_equal(other.predict_proba(X), p)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    assert np.isfinite(clone(model).fit(X, y, weights).decision_function(X)).all()


@each_objective
def test_a_weight_of_zero_is_no_objective(auxiliary, data):
    X, y = data
    # One batch an epoch, so that the order of the rows is not drawn.
    model = din(auxiliary=clone(auxiliary).set_params(weight=0.0), batch_size=512).fit(X, y)
    plain = din(batch_size=512, max_iter=model.n_iter_).fit(X, y)
    np.testing.assert_allclose(model.decision_function(X), plain.decision_function(X), rtol=1e-5)


@each_objective
def test_content_features_join_in(auxiliary, data):
    X, y = data
    features = np.random.default_rng(0).normal(size=(len(X.catalog), 5))
    X = X.with_catalog(X.catalog.with_features({"text": features}))
    model = din(auxiliary=auxiliary, item_features="auto").fit(X, y)
    assert model._network.item_dim == 8
    assert np.isfinite(model.decision_function(X)).all()


@each_objective
def test_grid_search_reaches_the_parameters(auxiliary, data):
    X, y = data
    search = GridSearchCV(
        din(auxiliary=auxiliary, max_iter=1), {"auxiliary__weight": [0.1, 1.0]}, cv=2
    )
    assert np.isfinite(search.fit(X, y).cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.auxiliary.weight == search.best_params_["auxiliary__weight"]


@each_objective
def test_frames_and_early_stopping_and_pickles(auxiliary, data):
    X, y = data
    model = din(auxiliary=auxiliary, early_stopping=True, validation_fraction=0.3)
    expected = clone(model).fit(X, y)
    np.testing.assert_array_equal(
        clone(model).fit(X.to_frame("pandas"), y).predict_proba(X), expected.predict_proba(X)
    )
    state = pickle.dumps(expected)
    assert len(state) < 100_000
    np.testing.assert_array_equal(pickle.loads(state).predict_proba(X), expected.predict_proba(X))


@each_objective
def test_going_on_with_the_same_with_another_and_without(auxiliary, data):
    X, y = data
    model = din(auxiliary=auxiliary, warm_start=True).fit(X, y)
    n = model.n_iter_
    for other in (auxiliary, CL4SRec(n_layers=2), BASRec(), None, auxiliary):
        model.set_params(auxiliary=other).fit(X, y)
        n += model.max_iter
        assert model.n_iter_ == n
    assert np.isfinite(model.decision_function(X)).all()


@each_objective
def test_partial_fit_is_one_epoch_each(auxiliary, data):
    X, y = data
    model = din(auxiliary=auxiliary)
    for i in range(3):
        model.partial_fit(X, y)
        assert model.n_iter_ == i + 1
    assert np.isfinite(model.decision_function(X)).all()


def test_partial_fit_goes_on_with_the_encoder(data):
    X, y = data
    model = din(auxiliary=CL4SRec(weight=1.0), learning_rate=1e-9).partial_fit(X, y)
    first = model._network.auxiliary.position.detach().clone()
    model.partial_fit(X, y)
    torch.testing.assert_close(model._network.auxiliary.position.detach(), first)


def test_basrec_trains_twice(data):
    X, y = data
    monitor = ScoringMonitor(scoring="roc_auc")
    model = din(auxiliary=BASRec(), max_iter=3)
    model.set_callbacks(monitor).fit(X, y)
    assert model.n_iter_ == 6
    names = [entry["task_name"] for entry in monitor.get_logs().data]
    assert sum(name.startswith("epoch") for name in names) == 6
    # Three losses more.
    assert min(model.loss_curve_[3:]) > 1.3 * max(model.loss_curve_[:3])
    assert din(auxiliary=BASRec(0.0), max_iter=3).fit(X, y).n_iter_ == 6


def test_running_statistics_are_those_of_real_rows(data):
    X, y = data
    # One batch an epoch: a network at rest (no step) sees the same rows in each.
    still = {"learning_rate": 1e-12, "max_iter": 4, "batch_size": 512, "activation": "dice"}
    still["early_stopping"] = False
    plain = din(**{**still, "max_iter": 8}).fit(X, y)._network
    mixed = din(auxiliary=BASRec(), **still).fit(X, y)._network
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(dict(mixed.named_buffers())[name], buffer)


def test_contrast_is_learnt(data):
    X, y = data
    model = din(auxiliary=CL4SRec(weight=1.0, encoder="pool"), max_iter=40, learning_rate=0.01)
    losses = model.fit(X, y).loss_curve_
    assert losses[-1] < losses[0] - 0.5


def test_histories_that_are_all_empty(data):
    X, y = data
    X = X.with_borrowed(None)
    empty = X.history.length == 0
    X, y = X[empty], y[empty]
    y[: len(y) // 2] = 1 - y[0]
    for auxiliary in OBJECTIVES:
        assert np.isfinite(din(auxiliary=auxiliary).fit(X, y).decision_function(X)).all()


# --- parameters and messages ---------------------------------------------------------------------


@pytest.mark.parametrize("cls", [CL4SRec, CoSeRec, BASRec])
def test_parameters_are_documented_and_names_public(cls):
    doc = inspect.getdoc(cls)
    for name, parameter in inspect.signature(cls).parameters.items():
        assert name in doc
        assert str(parameter.default) in doc
    assert getattr(skmars.baselines, cls.__name__) is cls
    assert clone(cls(weight=0.7)).get_params()["weight"] == 0.7


@pytest.mark.parametrize(
    ("auxiliary", "message"),
    [
        (CL4SRec(-1.0), "'weight' parameter of CL4SRec"),
        (CL4SRec(np.nan), "'weight' parameter of CL4SRec"),
        (CL4SRec(np.inf), "'weight' parameter of CL4SRec"),
        (CL4SRec(max_length=10**12), "'max_length' parameter of CL4SRec"),
        (CL4SRec(n_layers=10**12), "'n_layers' parameter of CL4SRec"),
        (CL4SRec(n_layers=True), "'n_layers' parameter of CL4SRec"),
        (CL4SRec(temperature=0), "'temperature' parameter of CL4SRec"),
        (CL4SRec(mask=1.0), "'mask' parameter of CL4SRec"),
        (CL4SRec(encoder="gru"), "'encoder' parameter of CL4SRec"),
        (CoSeRec(insert=1.5), "'insert' parameter of CoSeRec"),
        (CoSeRec(crop=True), "'crop' parameter of CoSeRec"),
        (CoSeRec(short=-1), "'short' parameter of CoSeRec"),
        (BASRec(reweighting="rows"), "'reweighting' parameter of BASRec"),
        (BASRec(concentration=0), "'concentration' parameter of BASRec"),
        (BASRec(high_rate=np.nan), "'high_rate' parameter of BASRec"),
        (BASRec(low_rate=0.6), "low_rate=0.6 of BASRec must not exceed high_rate=0.51"),
        ("CL4SRec", "'auxiliary' parameter of DINClassifier must be an object implementing"),
    ],
)
def test_bad_parameters(auxiliary, message, data):
    model = din(auxiliary=auxiliary)
    with pytest.raises(ValueError, match=message):
        model.fit(*data)
    assert not hasattr(model, "classes_")


def test_arrays_have_no_histories():
    with pytest.raises(ValueError, match="works on histories, but X is a plain numeric array"):
        din(auxiliary=CL4SRec()).fit(np.eye(4), [0, 1, 0, 1])
