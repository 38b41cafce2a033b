"""Pretrained models: with the real libraries where they are installed, else with stand-ins."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone

from skmars import ItemCatalog, MultimodalEncoder
from skmars.encoding import (
    OpenClipEncoder,
    SentenceTransformerEncoder,
    TimmImageEncoder,
    _torchvision,
    clear_memory_cache,
)
from skmars.encoding._pretrained import import_model_library

IMAGES = list(np.random.default_rng(0).integers(0, 256, (5, 40, 30, 3), dtype=np.uint8))
TEXTS = ["a red train", "a blue train with long rails and many cars", "cards", "a bear", "drum"]
CATALOG = ItemCatalog(range(5), content={"text": TEXTS, "image": IMAGES})


# --- without the libraries ------------------------------------------------------------------


class FakeModel:
    """What skmars needs of a SentenceTransformer."""

    def __init__(self, name, device=None):
        if name.startswith("nobody/"):
            raise OSError("We couldn't connect to the hub.\nCheck your connection.")
        self.weights = np.ones(10_000)

    def encode(self, texts, batch_size, show_progress_bar, device=None):
        return np.array([[len(text), 1.0] for text in texts])


@pytest.fixture
def fake(monkeypatch):
    loads = []

    def load(name, device=None):
        loads.append(name)
        return FakeModel(name)

    library = SimpleNamespace(SentenceTransformer=load)
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    return loads


def test_a_model_that_can_not_be_had_is_an_error_that_names_the_ways_out(fake):
    encoder = MultimodalEncoder({"text": "nobody/has-this"})
    before = set(vars(encoder))
    with pytest.raises(OSError, match="nobody/has-this") as caught:
        encoder.fit(CATALOG)
    for way in ("couldn't connect to the hub", "folder", "encoders=None"):
        assert way in str(caught.value)
    assert set(vars(encoder)) == before


def test_a_named_model_is_loaded_once_and_not_pickled(fake):
    encoder = MultimodalEncoder({"text": "some/model"}).fit(CATALOG)
    assert fake == ["some/model"]
    assert isinstance(encoder.encoders_["text"], SentenceTransformerEncoder)
    data = pickle.dumps(encoder)
    assert b"FakeModel" not in data
    del encoder
    clear_memory_cache()
    loaded = pickle.loads(data)
    loaded.transform(CATALOG)
    assert fake == ["some/model"]  # all vectors came with the pickle
    loaded.transform(ItemCatalog([9], content={"text": ["something new"]}))
    assert fake == ["some/model"] * 2


def test_a_model_that_is_passed_itself_stays_itself():
    model = FakeModel("here")
    encoder = MultimodalEncoder({"text": model}).fit(CATALOG)
    assert encoder.encoders_["text"].model is model
    assert clone(encoder).encoders["text"] is model
    assert clone(SentenceTransformerEncoder(model)).model is model
    assert MultimodalEncoder({"text": FakeModel("b")}).fit(CATALOG).n_encoded_ == {"text": 0}


@pytest.mark.parametrize(
    ("encoder", "library", "extra"),
    [
        (SentenceTransformerEncoder("a/b"), "sentence_transformers", "text"),
        (TimmImageEncoder("resnet18"), "timm", "image"),
        (OpenClipEncoder("ViT-B-32", None), "open_clip", "image"),
    ],
)
def test_a_missing_library_says_what_to_install(encoder, library, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"needs {library}.*pip install 'skmars\[{extra}\]'"):
        encoder.transform(["a"])


def test_specifications():
    image = MultimodalEncoder({"image": "timm:net/some/file.pth"}, batch_size=7, device="cpu")
    timm = image._transformers(CATALOG)["image"]
    assert (timm.model, timm.weights, timm.batch_size, timm.device) == (
        "net", "some/file.pth", 7, "cpu",
    )  # fmt: skip
    assert MultimodalEncoder({"image": "timm:net"})._transformers(CATALOG)["image"].weights is None
    both = {"text": "open_clip:RN50/", "image": "open_clip:RN50//a/file.pt"}
    clip = MultimodalEncoder(both)._transformers(CATALOG)
    assert (clip["text"].modality, clip["text"].pretrained) == ("text", None)
    assert (clip["image"].modality, clip["image"].pretrained) == ("image", "/a/file.pt")


def test_a_file_of_weights_that_is_not_there():
    for spec in ("timm:resnet18/nowhere.pth", "open_clip:RN50/nowhere.pt"):
        with pytest.raises(FileNotFoundError, match="weights file 'nowhere"):
            MultimodalEncoder({"image": spec}).fit(CATALOG)


def test_importing_the_encoders_imports_no_library_of_models():
    code = "import sys, skmars.encoding; print('torch' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# --- torchvision ------------------------------------------------------------------------------


def test_a_healthy_or_absent_torchvision_is_left_alone(monkeypatch):
    for found, imported in [(None, None), (object(), object())]:
        monkeypatch.setattr(_torchvision, "find_spec", lambda name, found=found: found)
        monkeypatch.setattr(_torchvision, "import_module", lambda name, it=imported: it)
        _torchvision.repair_torchvision.cache_clear()
        assert not _torchvision.repair_torchvision()
    _torchvision.repair_torchvision.cache_clear()


def test_a_torchvision_that_is_broken_otherwise_says_so(monkeypatch):
    def fail(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(_torchvision, "find_spec", lambda name: object())
    monkeypatch.setattr(_torchvision, "import_module", fail)
    _torchvision.repair_torchvision.cache_clear()
    with pytest.raises(RuntimeError, match="something else"):
        _torchvision.repair_torchvision()


def test_a_torchvision_without_its_operators_is_repaired(tmp_path):
    """In a process of its own, with a torchvision that imports as the real ones do."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "import torch\n"
        "@torch.library.register_fake('torchvision::nms')\n"
        "def nms(dets, scores, iou_threshold): return dets\n"
    )
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from skmars.encoding._torchvision import repair_torchvision
        print(repair_torchvision(), repair_torchvision())
        import torchvision
    """
    code = textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


# --- with the libraries -----------------------------------------------------------------------


def _library(name, extra):
    """Import a library as skmars does; skip the test where it is not installed."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return import_model_library(name, extra)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A SentenceTransformer of two layers with random weights, saved to a folder."""
    library = _library("sentence_transformers", "text")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    # A folder of transformers becomes a SentenceTransformer with mean pooling.
    library.SentenceTransformer(str(folder / "bert"), device="cpu").save(str(folder / "saved"))
    return folder / "saved"


def test_sentence_transformers(tiny_model):
    import sentence_transformers
    import torch

    model = sentence_transformers.SentenceTransformer(str(tiny_model), device="cpu")
    expected = model.encode(TEXTS)
    state = torch.get_rng_state()
    for spec in (str(tiny_model), tiny_model, model, SentenceTransformerEncoder(tiny_model)):
        clear_memory_cache()
        encoder = MultimodalEncoder({"text": spec}, batch_size=2).fit(CATALOG)
        features = encoder.catalog_.features["text"]
        np.testing.assert_allclose(features, expected, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)
    assert MultimodalEncoder({"text": str(tiny_model)}).fit(CATALOG).n_encoded_ == {"text": 0}
    named = MultimodalEncoder({"text": tiny_model}).fit(CATALOG)
    assert len(pickle.dumps(named)) < 50_000


def test_a_model_that_is_passed_itself_counts_by_its_content(tiny_model):
    """Not by which object it is, nor by what was encoded with it before."""
    import sentence_transformers
    import torch

    def n_encoded(model):
        return MultimodalEncoder({"text": model}).fit(CATALOG).n_encoded_["text"]

    model = sentence_transformers.SentenceTransformer(str(tiny_model), device="cpu")
    assert [n_encoded(model), n_encoded(model)] == [5, 0]
    assert n_encoded(pickle.loads(pickle.dumps(model))) == 0
    assert n_encoded(sentence_transformers.SentenceTransformer(str(tiny_model), device="cpu")) == 0
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    assert n_encoded(model) == 5
    model.max_seq_length = 3
    assert n_encoded(model) == 5


def test_the_real_hub_when_offline():
    _library("sentence_transformers", "text")
    with pytest.raises(OSError, match="'nobody/has-this-model' was not found on this machine"):
        MultimodalEncoder({"text": "nobody/has-this-model"}).fit(CATALOG)
    _library("timm", "image")
    with pytest.raises(OSError, match="The timm model 'resnet18' was not found"):
        MultimodalEncoder({"image": "timm:resnet18"}).fit(CATALOG)
    _library("open_clip", "image")
    with pytest.raises(OSError, match="OpenCLIP model 'ViT-B-32' with weights 'laion2b"):
        MultimodalEncoder({"image": "open_clip:ViT-B-32/laion2b_s34b_b79k"}).fit(CATALOG)


@pytest.fixture(scope="module")
def timm_model():
    timm = _library("timm", "image")
    import torch

    torch.manual_seed(0)
    return timm.create_model("test_efficientnet").eval()


@pytest.mark.parametrize("naming", ["by name", "by order", "checkpoint", "without counters"])
def test_timm_weights_fit_by_name_or_by_order(timm_model, tmp_path, naming):
    import timm
    import torch

    state = dict(timm_model.state_dict())
    if naming == "by order":
        state = {f"other.{i}": tensor for i, tensor in enumerate(state.values())}
    if naming == "checkpoint":
        state = {"state_dict": {f"module.{k}": v for k, v in state.items()}}
    if naming == "without counters":
        state = {f"x{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    spec = f"timm:test_efficientnet/{tmp_path / 'w.pth'}"
    rng_state = torch.get_rng_state()
    encoder = MultimodalEncoder({"image": spec}, batch_size=2).fit(CATALOG)
    assert torch.equal(torch.get_rng_state(), rng_state)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(timm_model))
    from PIL import Image

    with torch.inference_mode():
        batch = torch.stack([transform(Image.fromarray(x)) for x in IMAGES])
        expected = timm_model.forward_head(timm_model.forward_features(batch), pre_logits=True)
    np.testing.assert_allclose(encoder.catalog_.features["image"], expected, atol=1e-5)
    again = MultimodalEncoder(
        {"image": TimmImageEncoder("test_efficientnet", weights=tmp_path / "w.pth")}
    )
    assert again.fit(CATALOG).n_encoded_ == {"image": 0}


def test_timm_weights_of_another_model(timm_model, tmp_path):
    import torch

    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w.pth does not fit the model.*conv_stem.*\(3,\)"):
        TimmImageEncoder("test_efficientnet", weights=tmp_path / "w.pth").transform(IMAGES)
    first = next(iter(timm_model.state_dict().values()))
    torch.save({"a": first}, tmp_path / "short.pth")
    with pytest.raises(ValueError, match="holds 1 parameters, the model has"):
        TimmImageEncoder("test_efficientnet", weights=tmp_path / "short.pth").transform(IMAGES)


def test_open_clip_with_random_weights_and_from_a_file(tmp_path):
    _library("open_clip", "image")
    import torch

    both = {"text": "open_clip:RN50/", "image": "open_clip:RN50/"}
    catalog = ItemCatalog([1, 2], content={"text": TEXTS[:2], "image": IMAGES[:2]})
    encoder = MultimodalEncoder(both).fit(catalog)
    features = encoder.catalog_.features
    assert features["text"].shape == features["image"].shape == (2, 1024)
    text, image = encoder.encoders_["text"], encoder.encoders_["image"]
    assert text._get_model() is image._get_model()
    torch.save(text._get_model().model.state_dict(), tmp_path / "w.pt")
    from_file = MultimodalEncoder({"image": f"open_clip:RN50/{tmp_path / 'w.pt'}"}).fit(catalog)
    np.testing.assert_allclose(from_file.catalog_.features["image"], features["image"], atol=1e-5)
    clear_memory_cache()
    other = MultimodalEncoder({"text": "open_clip:RN50/"}, random_state=1).fit(catalog)
    assert not np.allclose(other.catalog_.features["text"], features["text"])
