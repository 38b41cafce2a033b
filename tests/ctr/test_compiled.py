"""The compiled perceptron is that of the layers: values, gradients, any number of threads."""

from __future__ import annotations

import _ctypes
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skmars import DINClassifier
from skmars.ctr import _kernel
from skmars.ctr._kernel.build import build
from skmars.ctr._layers import AttentionPooling, Perceptron, shared_statistics
from skmars.datasets import make_multimodal_ctr

needs_compiled = pytest.mark.skipif(
    _kernel.library() is None, reason="compiled code was not built, or can't run here"
)
WIDTHS = st.lists(st.integers(1, 40), min_size=1, max_size=3)


@pytest.fixture
def without_compiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(_kernel, "library", lambda: None)


@pytest.fixture(params=[1, 3])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def random_parameters(network: torch.nn.Module, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in [*network.parameters(), *network.buffers()]:
            p.copy_(torch.rand(p.shape, generator=generator) - 0.4)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_().add_(0.1)
    return network


def outcome(
    network: Any, inputs: list[Tensor], run: Callable[..., Tensor], *, double: bool
) -> list[Tensor]:
    """Output, gradients of inputs and parameters, and statistics, all as float64."""
    kind = torch.float64 if double else torch.float32
    network = network.to(kind)
    leaves = [x.to(kind).clone().requires_grad_() for x in inputs]
    out = run(network, *leaves)
    if network.training:
        weight = torch.linspace(-1, 2, out.numel(), dtype=kind).view_as(out)
        (out * weight).sum().backward()
    gradients = [x.grad for x in leaves] + [p.grad for p in network.parameters()]
    found = [out.detach(), *(g for g in gradients if g is not None), *network.buffers()]
    return [x.double().clone() for x in found]


def assert_alike(found: list[Tensor], exact: list[Tensor]) -> None:
    assert len(found) == len(exact)
    for here, there in zip(found, exact):
        scale = max(1.0, float(there.abs().amax()))
        torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4 * scale)


@needs_compiled
@given(
    widths=WIDTHS,
    n=st.integers(30, 300),  # of few rows, rounding may be as large as their spread
    n_inputs=st.integers(1, 37),
    training=st.booleans(),
    weighed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rows(
    widths: list[int], n: int, n_inputs: int, training: bool, weighed: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n_inputs, generator=generator)
    weight = torch.rand(n, generator=generator) + 0.1 if weighed else None

    def run(network: Perceptron, x: Tensor) -> Tensor:
        assert (network.compiled(x, None) is not None) == (x.dtype == torch.float32)
        return network(x, None if weight is None else weight.to(x.dtype))

    found = []
    for double in (False, True):
        network = random_parameters(Perceptron(n_inputs, widths, "dice"), seed).train(training)
        with torch.set_grad_enabled(training):
            found.append(outcome(network, [x], run, double=double))
    assert_alike(*found)


@needs_compiled
@given(
    widths=WIDTHS,
    lengths=st.lists(st.integers(0, 90), min_size=1, max_size=30),
    n_inputs=st.integers(1, 37),
    normalization=st.sampled_from([None, "sqrt"]),
    training=st.booleans(),
    weighed=st.booleans(),
    gathered=st.booleans(),
    seed=st.integers(0, 99),
)
def test_histories(
    widths: list[int],
    lengths: list[int],
    n_inputs: int,
    normalization: str | None,
    training: bool,
    weighed: bool,
    gathered: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    length = torch.tensor([*lengths, 30])
    n = int(length.sum())
    row = torch.arange(len(length)).repeat_interleave(length)
    query = torch.randn(len(length), n_inputs, generator=generator)
    key = torch.randn(7 if gathered else n, n_inputs, generator=generator)
    at = torch.randint(0, 7, (n,), generator=generator) if gathered else None
    weight = torch.rand(len(length), generator=generator) + 0.1 if weighed else None

    def run(pooling: AttentionPooling, query: Tensor, key: Tensor) -> Tensor:
        w = None if weight is None else weight.to(query.dtype)
        return pooling(query, key, row, length, w, at)

    found = []
    for double in (False, True):
        pooling = AttentionPooling(n_inputs, widths, "dice", normalization).train(training)
        random_parameters(pooling, seed)
        with torch.set_grad_enabled(training):
            found.append(outcome(pooling, [query, key], run, double=double))
    assert_alike(*found)


@needs_compiled
def test_rows_that_share_a_history_read_it_once() -> None:
    pooling = random_parameters(AttentionPooling(6, (8, 4), "dice"), 0).eval()
    query, key = torch.randn(7, 6), torch.randn(9, 6)
    n_rows, length = torch.tensor([3, 0, 4]), torch.tensor([5, 0, 4])
    with torch.no_grad():
        shared = pooling.shared(query, key, n_rows, length)
        keys = torch.cat([key[:5]] * 3 + [key[5:]] * 4)
        each = length.repeat_interleave(n_rows)
        row = torch.arange(7).repeat_interleave(each)
        assert torch.equal(shared, pooling(query, keys, row, each))


@needs_compiled
def test_a_row_does_not_depend_on_its_batch() -> None:
    """To the bit: what is summed for a row is summed in the same order, wherever it stands."""
    pooling = random_parameters(AttentionPooling(10, (80, 40), "dice"), 0).eval()
    length = torch.randint(0, 150, (60,), generator=torch.Generator().manual_seed(0))
    query, key = torch.randn(60, 10), torch.randn(int(length.sum()), 10)
    row = torch.arange(60).repeat_interleave(length)
    begin = torch.cumsum(length, 0) - length
    with torch.no_grad():
        whole = pooling(query, key, row, length)
        for r in range(60):
            own = slice(int(begin[r]), int(begin[r] + length[r]))
            alone = pooling(query[r : r + 1], key[own], row[own] * 0, length[r : r + 1])
            assert torch.equal(alone[0], whole[r])


@needs_compiled
def test_the_number_of_threads_changes_no_bit() -> None:
    X, y, _ = make_multimodal_ctr(200, 100, random_state=0, return_truth=True)
    before, found = torch.get_num_threads(), []
    for n in (1, 2, 5):
        torch.set_num_threads(n)
        try:
            model = DINClassifier(max_iter=2, random_state=0).fit(X, y)
            found.append(model.predict_proba(X))
        finally:
            torch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@needs_compiled
def test_a_fit_is_that_of_the_layers_but_for_rounding(without_compiled: Callable[[], None]) -> None:
    X, y = make_multimodal_ctr(200, 100, random_state=0)
    model = DINClassifier(max_iter=2, early_stopping=False, random_state=0)
    compiled = model.fit(X, y).predict_proba(X)
    without_compiled()
    np.testing.assert_allclose(model.fit(X, y).predict_proba(X), compiled, atol=2e-3)


class Group:
    """What two threads have of a group of processes."""

    def __init__(self) -> None:
        self.size, self.parts = 2, [None, None]
        self.barrier = threading.Barrier(2, timeout=60)

    def of(self, rank: int) -> SimpleNamespace:
        def sum_(values: Tensor) -> Tensor:
            self.parts[rank] = values.clone()
            self.barrier.wait()
            total = self.parts[0] + self.parts[1]
            self.barrier.wait()
            return values.copy_(total)

        return SimpleNamespace(rank=rank, size=2, sum_=sum_)


@needs_compiled
@pytest.mark.parametrize("n_first", [0, 3, 40])
@pytest.mark.parametrize("weighed", [False, True])
def test_processes_that_have_parts_of_a_batch(n_first: int, weighed: bool) -> None:
    """Statistics are those of all rows; gradients of parameters are parts of theirs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator)
    weight = torch.rand(60, generator=generator) if weighed else None

    def run(rows: slice, group: Any, found: dict[int, list[Tensor]], rank: int) -> None:
        network = random_parameters(Perceptron(5, (6, 4), "dice"), 0).train()
        network.group = group
        part = x[rows].clone().requires_grad_()
        out = network(part, None if weight is None else weight[rows])
        out.sin().sum().backward()
        gradients = [part.grad, *(p.grad for p in network.parameters())]
        found[rank] = [out.detach(), *gradients, *network.buffers()]

    group, found = Group(), {}  # type: Any, dict[int, list[Tensor]]
    threads = [
        threading.Thread(target=run, args=(rows, group.of(rank), found, rank))
        for rank, rows in enumerate((slice(n_first), slice(n_first, None)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run(slice(None), None, found, 2)
    n_parameters = len(list(Perceptron(5, (6, 4), "dice").parameters()))
    for i, (one, two, all_rows) in enumerate(zip(*(found[rank] for rank in range(3)))):
        kind = "rows" if i < 2 else "gradient" if i < 2 + n_parameters else "statistic"
        whole = {"rows": lambda a, b: torch.cat([a, b]), "gradient": torch.add}
        together = whole[kind](one, two) if kind in whole else one
        torch.testing.assert_close(together, all_rows, rtol=1e-4, atol=1e-4)


@needs_compiled
def test_an_error_of_another_process_is_raised() -> None:
    network = Perceptron(5, (6, 4), "dice").train()

    def sum_(values: Tensor) -> Tensor:
        raise ConnectionError("another process has ended")

    network.group = SimpleNamespace(rank=0, size=2, sum_=sum_)  # type: ignore[assignment]
    with pytest.raises(ConnectionError, match="another process has ended"):
        network(torch.randn(7, 5))


@needs_compiled
def test_nobody_is_asked_for_sums_after_an_error() -> None:
    network, calls = Perceptron(5, (6, 4), "dice").train(), []

    def sum_(values: Tensor) -> Tensor:
        calls.append(len(values))
        raise ConnectionError("another process has ended")

    network.group = SimpleNamespace(rank=0, size=2, sum_=sum_)  # type: ignore[assignment]
    with pytest.raises(ConnectionError):
        network(torch.randn(7, 5))
    assert len(calls) == 1


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_compiled)])
def test_a_batch_without_histories_anywhere_changes_no_statistics(
    compiled: bool, without_compiled: Callable[[], None]
) -> None:
    """One process does not see such a batch; several must not divide by its zero positions."""
    if not compiled:
        without_compiled()
    pooling = random_parameters(AttentionPooling(3, (4, 2), "dice"), 0).train()
    before = [buffer.clone() for buffer in pooling.buffers()]
    group = SimpleNamespace(rank=0, size=2, sum_=lambda values: values)
    none = torch.zeros(0, dtype=torch.int64)
    with shared_statistics(group, [pooling]):  # type: ignore[arg-type]
        pooled = pooling(torch.randn(2, 3), torch.randn(0, 3), none, torch.zeros(2).long())
    pooled.sum().backward()
    assert torch.equal(pooled, torch.zeros(2, 3))
    assert all(map(torch.equal, pooling.buffers(), before))
    assert all(p.grad is None or not p.grad.isnan().any() for p in pooling.parameters())


HISTORIES: dict[str, Any] = {
    "query": torch.randn(3, 14, generator=torch.Generator().manual_seed(0))[:, ::2],
    "key": torch.randn(7, 20, generator=torch.Generator().manual_seed(1)).T,
    "row": torch.arange(3).repeat_interleave(torch.tensor([50, 0, 40])),
    "length": torch.tensor([50, 0, 40]),
    "weight": torch.tensor([1.0, 5, 2, 5, 0.5, 5])[::2],
    "at": torch.randint(0, 20, (180,), generator=torch.Generator().manual_seed(2))[::2],
}


@needs_compiled
@pytest.mark.parametrize("as_integers", [torch.int32, torch.int64])
@pytest.mark.parametrize("as_weight", [torch.float32, torch.float64])
def test_tensors_of_any_strides_and_types(
    as_integers: torch.dtype, as_weight: torch.dtype, without_compiled: Callable[[], None]
) -> None:
    """Compiled code, which reads nothing but what it expects, is given that."""
    pooling = random_parameters(AttentionPooling(7, (8, 4), "dice"), 0).train()
    integers = {name: HISTORIES[name].to(as_integers) for name in ("length", "at")}
    weight = HISTORIES["weight"].to(as_weight)
    found = pooling(**{**HISTORIES, **integers, "weight": weight})
    without_compiled()
    torch.testing.assert_close(found, pooling(**HISTORIES), rtol=1e-3, atol=1e-3)


@needs_compiled
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("at", HISTORIES["at"] + 10),
        ("at", HISTORIES["at"] - 10),
        ("at", HISTORIES["at"][:80]),
        ("length", torch.tensor([50, 0, 41])),
        ("length", torch.tensor([91, -1, 0])),
        ("length", torch.tensor([50, 0])),
        ("weight", torch.ones(2)),
        ("query", torch.randn(3, 6)),
        ("key", torch.randn(20, 6)),
    ],
)
def test_nothing_is_read_beyond_the_end_of_a_tensor(name: str, value: Tensor) -> None:
    pooling = AttentionPooling(7, (8, 4), "dice").train()
    with pytest.raises(ValueError, match="at |length|weight|query|matrices"):
        pooling(**{**HISTORIES, name: value})
    with pytest.raises(ValueError, match="matrices"):
        Perceptron(5, (6, 4), "dice").train()(torch.randn(9, 4))


@needs_compiled
def test_what_backward_needs_is_watched_and_freed() -> None:
    network = Perceptron(5, (6, 4), "dice").train()
    out = network(torch.randn(9, 5)).sum()
    out.backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.backward()
    out = network(torch.randn(9, 5)).sum()
    with torch.no_grad():
        network.layers[1].weight.add_(1)  # type: ignore[operator, union-attr]
    with pytest.raises(RuntimeError, match="inplace"):
        out.backward()


LIMITED = """
import resource, torch
from skmars.ctr._layers import Perceptron
torch.set_num_threads(6)
network = Perceptron(20, ({units}, 4), "dice").train()
x = torch.randn(100000, 20)
if {units} > 99:
    out = network(x).sum()
used = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + {room} * 2**20,) * 2)
try:
    out.backward() if {units} > 99 else network(x[:1000])
    print("computed")
except MemoryError as error:
    print(error)
"""


@needs_compiled
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("units", "room", "said"), [(400, 60, "Set a smaller batch_size"), (16, 20, "computed")]
)
def test_without_memory_or_threads_the_process_lives_on(units: int, room: int, said: str) -> None:
    """Too little for the arrays of a backward pass; for the stacks of six threads."""
    script = LIMITED.format(units=units, room=room)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert said in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize("content", [b"", b"no library", None])
def test_a_file_that_cannot_be_used_is_told(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged, or built from another version (here: another library)."""
    name = _kernel.FILES.get(torch.backends.cpu.get_cpu_capability(), "perceptron-native.so")
    if content is None:
        shutil.copy(_ctypes.__file__, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(_kernel, "__file__", str(tmp_path / "__init__.py"))
    with pytest.warns(UserWarning, match="can't be used .* Build it again"):
        assert _kernel.library.__wrapped__() is None


@needs_compiled
def test_a_small_spread_about_a_large_mean_survives(n_threads: int) -> None:
    network = random_parameters(Perceptron(8, (16, 8), "dice"), 0).train()
    x = 1000 + torch.randn(5000, 8)
    exact = random_parameters(Perceptron(8, (16, 8), "dice"), 0).train().double()
    network(x), exact(x.double())
    for fast, slow in zip(network.buffers(), exact.buffers()):
        torch.testing.assert_close(fast.double(), slow, rtol=1e-3, atol=1e-3)


def test_what_is_not_compiled_is_computed_by_the_layers() -> None:
    x = torch.randn(4, 3)
    for other in (Perceptron(3, (4,), "relu"), Perceptron(3, (4,), "dice", n_outputs=2)):
        assert other.train().compiled(x, None) is None
    network = Perceptron(3, (4,), "dice").double()
    assert network.compiled(x.double(), None) is None
    assert Perceptron(3, (4,), "dice").eval().compiled(x, None) is None  # with gradients
    assert AttentionPooling(3, (4,), "dice", "softmax")._compiled(x) is None


def test_without_a_compiler_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no C\\+\\+ compiler was found"):
        build(tmp_path)
    failing = shutil.which("false")
    if failing:
        monkeypatch.setenv("CXX", failing)
        with pytest.raises(RuntimeError, match="failed"):
            build(tmp_path)
    assert not list(tmp_path.iterdir())
