"""Contents and encoders are the same if they are equal in all that vectors may depend on."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
import textwrap
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skmars import ItemCatalog, MultimodalEncoder
from skmars.data._content import content_key
from skmars.data._digest import NoDigest
from skmars.encoding import ImageStatisticsEncoder, TfidfEncoder
from skmars.encoding._content import digest
from skmars.encoding._fingerprint import fingerprint


class Weighted(TransformerMixin, BaseEstimator):
    def __init__(self, weights=None, inner=None):
        self.weights, self.inner = weights, inner

    def transform(self, X):
        return X


def run(source: str) -> dict:
    """Run source as a notebook does: nothing that it defines is in a file."""
    names: dict = {"__name__": "__main__"}
    exec(textwrap.dedent(source), names)
    return names


# --- contents ----------------------------------------------------------------------------------

LONG = np.zeros(5000)
CHANGED = np.where(np.arange(5000) == 2500, 1.0, 0.0)


def picture(**info) -> Image.Image:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.info.update(info)
    return image


def turned(orientation: int) -> Image.Image:
    image = Image.new("RGB", (2, 3))
    image.getexif()[0x0112] = orientation
    image.info["exif"] = image.getexif().tobytes()  # or copies forget it
    return image


DIFFERENT = [
    ({"wave": LONG}, {"wave": CHANGED}),
    ([LONG, 1], [CHANGED, 1]),
    ([1], [1.0]), ([1], [True]), ((1,), [1]), ("1", b"1"), ([0.0], [-0.0]), ({1}, frozenset({2})),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ([["a", "b"], []], [["a"], ["b"]]), (["ab", "c"], ["a", "bc"]),
    (np.zeros(4), np.zeros((2, 2))), (np.zeros(2), np.zeros(2, np.float32)),
    (np.zeros(2, ">f4"), np.zeros(2, "<i4")),
    (np.array([LONG, None], object), np.array([CHANGED, None], object)),
    (np.zeros(1, [("a", "f4")]), np.zeros(1, [("b", "f4")])),
    (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0])),
    pytest.param(
        np.array(["a" * 99, "b"], np.dtypes.StringDType()),
        np.array(["c" * 99, "b"], np.dtypes.StringDType()),
        marks=pytest.mark.skipif(
            np.lib.NumpyVersion(np.__version__) < "2.2.6", reason="NumPy crashes copying them"
        ),
    ),
    (picture(), picture(transparency=1)), (picture(), picture(dpi=(1, 1))), (turned(1), turned(6)),
    (Image.new("L", (2, 3)), Image.new("L", (3, 2))),
    (Image.new("L", (2, 2)), Image.new("P", (2, 2))),
    (SimpleNamespace(a=1), SimpleNamespace(a=2)), (Fraction(1, 2), Fraction(1, 3)),
    (Path("a"), Path("b")), (Path("a"), "a"), (int, float), (len, sum), (np.add, np.multiply),
    (lambda: 1, lambda: 2), (functools.partial(max, 1), functools.partial(max, 2)),
    (OrderedDict(a=1), {"a": 1}), ("a".upper, "b".upper), (2**70, 2**70 + 1),
    (10**5000, 10**5000 + 1),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=lambda value: type(value).__name__)
def test_different_contents_are_two_and_copies_are_one(one, other):
    assert digest(one, "raw") == digest(copy.deepcopy(one), "raw") != digest(other, "raw")
    assert content_key(one) == content_key(copy.deepcopy(one)) != content_key(other)


def test_what_does_not_matter():
    text = "".join(["to", "ken"])
    assert digest([text, text], "raw") == digest(["token", "token"], "raw")  # which are one object
    assert digest(set("abcdef"), "raw") == digest(set("fedcba"), "raw")
    array = np.arange(12).reshape(3, 4)
    assert digest(array, "raw") == digest(np.asfortranarray(array), "raw")
    assert digest(array[:, ::2], "raw") == digest(array[:, ::2].copy(), "raw")


def test_a_colour_of_the_palette_counts_without_transparency():
    one, other = picture(), picture()
    other.putpalette([0, 0, 0, 9, 9, 8])
    assert digest(one, "image") != digest(other, "image")
    other.putpalette([0, 0, 0, 255, 9, 9, 9, 254], "RGBA")
    assert digest(one, "image") != digest(other, "image")


def test_what_contains_itself():
    def ring(last):
        value = [1, last]
        value.append({"back": value})
        return value

    assert digest(ring(1), "raw") == digest(ring(1), "raw") != digest(ring(2), "raw")
    towering = [1]
    for _ in range(60):  # two to the power of 60 parts
        towering = [towering, towering]
    with pytest.raises(ValueError, match="can't be told from others: more than"):
        digest(towering, "raw")


class Sulking:
    def __reduce_ex__(self, protocol):
        raise ZeroDivisionError("no")


@pytest.mark.parametrize("value", [(i for i in "ab"), sys.stdout, Sulking(), memoryview(b"a")])
def test_what_has_no_content_is_masked_not_confused(value):
    lengths = FunctionTransformer(lambda X: [[len(x)] for x in X])
    catalog = ItemCatalog([1, 2], content={"audio": ["a", [value]]})
    with pytest.warns(UserWarning, match="2: list that can't be told from others"):
        encoder = MultimodalEncoder({"audio": lengths}).fit(catalog)
    assert encoder.missing_["audio"].tolist() == [2]
    assert content_key([value]) != content_key([value])


def test_files_count_by_what_is_in_them(tmp_path):
    path = tmp_path / "a.wav"
    seen = set()
    for content in (b"one", b"two", b"one"):  # of one length, within a moment
        path.write_bytes(content)
        for value in (path, str(path), {"wave": str(path)}):
            seen.add(digest(value, "raw"))
    assert len(seen) == 6


def test_a_picture_that_changes_while_it_is_read_is_masked(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (2, 2)).save(path)

    class Vandal(ImageStatisticsEncoder):
        def transform(self, X):
            Image.new("L", (3, 3)).save(path)
            return super().transform(X)

    values = [Image.new("L", (2, 2)), path]
    with pytest.warns(UserWarning, match="a.png: changed while it was read"):
        encoder = MultimodalEncoder({"image": Vandal()}, batch_size=1).fit(
            ItemCatalog([1, 2], content={"image": values})
        )
    assert encoder.missing_["image"].tolist() == [2]


SCRIPT = """
import numpy as np
from PIL import Image
from skmars.encoding._content import digest
from skmars.encoding._fingerprint import fingerprint
from skmars.encoding import TfidfEncoder
from sklearn.preprocessing import FunctionTransformer
from sklearn.base import BaseEstimator, TransformerMixin
STOP = {"the", "a", "of", "and"}

class Mine(TransformerMixin, BaseEstimator):
    words = frozenset({"x", "y", "z", "w"})
    def fit(self, X, y=None): return self
    def transform(self, X): return [[len(set(x.split()) - STOP - self.words)] for x in X]

content = {"a": {"x", "yy", "zzz"}, "b": [1.5, None, np.arange(9)], "c": Image.new("L", (3, 3))}
print(digest(content, "raw").hex(), fingerprint(Mine()), fingerprint(TfidfEncoder(3)),
      fingerprint(FunctionTransformer(lambda X: [x for x in X if x in {"p", "q", "r"}])))
"""


def test_digests_are_the_same_in_every_process():
    lines = set()
    for seed in "12":
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        lines.add(done.stdout)
    assert len(lines) == 1


# --- encoders ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Weighted(LONG), Weighted(CHANGED)),
        (Weighted({"w": [LONG]}), Weighted({"w": [CHANGED]})),
        (Weighted(inner=Weighted(1)), Weighted(inner=Weighted(2))),
        (make_pipeline(TfidfVectorizer(ngram_range=(1, 1)), TfidfEncoder()),
         make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), TfidfEncoder())),
        (FunctionTransformer(functools.partial(np.clip, a_min=0)),
         FunctionTransformer(functools.partial(np.clip, a_min=1))),
        (FunctionTransformer(lambda X: [[len(x)] for x in X]),
         FunctionTransformer(lambda X: [[len(x) + 1] for x in X])),
        (FunctionTransformer(np.log), FunctionTransformer(np.exp)),
        (StandardScaler().fit([[0.0]]), StandardScaler().fit([[1.0]])),
        (Weighted(np.random.RandomState(0)), Weighted(np.random.RandomState(1))),
    ],
)  # fmt: skip
def test_encoders_are_told_apart_by_all_that_they_hold(one, other):
    assert fingerprint(one) == fingerprint(copy.deepcopy(one)) != fingerprint(other)


def test_what_watches_and_speeds_up_makes_no_other_encoder():
    plain = make_pipeline(TfidfEncoder(), StandardScaler())
    watched = make_pipeline(TfidfEncoder(), StandardScaler(), memory="somewhere", verbose=True)
    assert fingerprint(plain) == fingerprint(watched.set_output(transform="pandas"))


TEMPLATE = """
from sklearn.base import BaseEstimator, TransformerMixin
import numpy as np
SCALE = {scale}
WEIGHTS = np.array([{weight}, 2.0])

def helper(x):
    return inner(x) * {factor}

def inner(x):
    return len(x) + {summand}

class Base:
    bias = [{bias}]
    def length(self, x, by={default}):
        return helper(x) * SCALE * WEIGHTS.sum() + self.bias[0]

class Encoder(Base, TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self
    def transform(self, X):
        return [[self.length(x)] for x in X]
"""
VALUES = {"scale": 1, "weight": 1.0, "factor": 1, "summand": 0, "bias": 0, "default": 1}


@pytest.mark.parametrize("edited", VALUES)
def test_an_edited_notebook_makes_another_encoder(edited):
    """Of the same name, whatever is edited that the class refers to."""
    same = [fingerprint(run(TEMPLATE.format(**VALUES))["Encoder"]()) for _ in range(2)]
    other = run(TEMPLATE.format(**{**VALUES, edited: 7}))["Encoder"]()
    assert same[0] == same[1] != fingerprint(other)


def test_an_edited_notebook_encodes_anew():
    catalog = ItemCatalog([1, 2], content={"audio": ["ab", "abc"]})
    for factor in (1, 3):
        encoder = run(TEMPLATE.format(**{**VALUES, "factor": factor}))["Encoder"]()
        features = MultimodalEncoder({"audio": encoder}).fit(catalog).catalog_.features["audio"]
        assert features.ravel().tolist() == [6 * factor, 9 * factor]


def test_an_edited_module_makes_another_encoder(tmp_path, monkeypatch):
    """Also where it is imported only when it is needed."""
    monkeypatch.syspath_prepend(tmp_path)
    seen = set()
    for value in (1, 2):
        (tmp_path / "my_helpers.py").write_text(f"def f(x): return x * {value:<9}")
        sys.modules.pop("my_helpers", None)
        late = "def f(X):\n    import my_helpers\n    return my_helpers.f(X)"
        early = "import my_helpers\ndef f(X):\n    return my_helpers.f(X)"
        seen |= {fingerprint(FunctionTransformer(run(source)["f"])) for source in (late, early)}
    sys.modules.pop("my_helpers", None)
    assert len(seen) == 4


def test_a_file_that_a_parameter_names_counts_by_its_content(tmp_path):
    path = tmp_path / "weights.npy"
    seen = set()
    for i in range(2):
        np.save(path, np.full(3, i))
        seen |= {fingerprint(Weighted(path)), fingerprint(Weighted(str(path)))}
    assert len(seen) == 4


def test_torch_modules_count_by_weights_settings_mode_and_code():
    torch = pytest.importorskip("torch")

    def net(seed=0, p=0.5, training=False):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(p))
        return Weighted(inner=module.train(training))

    same = {fingerprint(net()), fingerprint(copy.deepcopy(net()))}
    others = [net(1), net(p=0.1), net(training=True)]
    frozen = net()
    frozen.inner[0].register_buffer("shift", torch.ones(1), persistent=False)
    hooked = net()
    hooked.inner.register_forward_hook(lambda module, X, out: 2 * out)
    halved = net()
    halved.inner.to(torch.bfloat16)
    others += [frozen, hooked, halved]
    assert len(same | set(map(fingerprint, others))) == 1 + len(others)


def test_an_object_that_can_not_be_told_from_others_is_no_part_of_an_encoder():
    with pytest.raises(NoDigest, match="generator"):
        fingerprint(Weighted(i for i in "ab"))


def test_a_random_fit_does_not_lend_its_vectors_to_another_one(tmp_path):
    """Each process fits for itself where the pickle is lost; the vectors are those of its fit."""

    class Random(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.number_ = np.random.default_rng().random()
            return self

        def transform(self, X):
            return [[self.number_] for _ in X]

    from skmars.encoding import clear_memory_cache

    encoder = MultimodalEncoder({"text": Random()}, cache=tmp_path)
    catalog = ItemCatalog([1, 2], content={"text": ["a", "b"]})
    encoder.fit(catalog)
    for file in tmp_path.rglob("encoder.joblib"):
        file.unlink()
    clear_memory_cache()
    again = clone(encoder).fit(catalog)
    number = np.float32(again.encoders_["text"].number_)
    assert (again.catalog_.features["text"] == number).all()
