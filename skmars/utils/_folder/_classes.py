"""The classes whose objects can be stored in a folder, and made of one: no other ever is."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

# Names of classes as they stand in a folder. They are imported when one of their objects is read,
# which runs the code of this library and of the libraries below alone.
#
# An object is made without calling its class, and gets its state: what `__getstate__` returned when
# it was stored (`vars`, where the class has none), by `__setstate__` where the class has one. So a
# class may stand here whose `__setstate__` copes with any state that a stranger thinks of.
_SKMARS = """
alignment._aligner: SteinAligner
alignment._attention: RaggedAttention
alignment._encoder: AlignmentEncoder
alignment._item_factors: FactorBasis FactorRegression ItemFactors
alignment._linear: LinearAligner
alignment._linear_encoder: LinearEncoder
alignment._linear_maps: LinearMap
alignment._multiview: MultiviewEncoder MultiviewNetwork
alignment._network: AlignmentNetwork Dropout Projection
baselines._contrastive: ViewEncoder
baselines._editing: CropMaskReorder CropMaskReorderSubstituteInsert
baselines._objectives: BASRec CL4SRec CoSeRec
baselines._prepending: RandomItems RandomSequence RepeatPad
ctr._attributes: LearntAttribute
ctr._din: DINClassifier
ctr._layers: AttentionPooling Dice LocalActivationUnit Perceptron
ctr._network: AttributeEmbedding DINNetwork
ctr._row_encoder: RowEncoder
data._activity: UserActivity
data._attributes: Attribute
data._catalog: ItemCatalog
data._histories: Timeline
data._known_users: KnownUsers
data._memo: Memo
data._sequences: Sequences
data._user_histories: UserHistories
encoding._content: Items
encoding._encode: ModalityEncoder
encoding._image: ImageStatisticsEncoder
encoding._multimodal: MultimodalEncoder _Modality
encoding._open_clip: OpenClipEncoder
encoding._sentence_transformers: SentenceTransformerEncoder
encoding._text: TfidfEncoder
encoding._timm: TimmImageEncoder
persistence._model: Columns Model
rates._classifiers: ClickRateClassifier PopularityClassifier _Design
rates._counts: Events Smoothing
rates._encoder: ClickRateEncoder
rates._rates: Rates
retrieval._ann: HNSWNeighbors
retrieval._augmenter: SequenceRetrievalAugmenter
retrieval._donors: DonorPool PoolSettings
retrieval._embeddings: ItemSpace
retrieval._lookalike_features: Interactions
retrieval._neighbors: CosineNeighbors
retrieval._users: Users
utils._ids: Lookup
"""

# What stands in pipelines together with the steps of this library, as scikit-learn names it.
_SKLEARN = """
calibration: CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration _TemperatureScaling
compose._column_transformer: ColumnTransformer
decomposition._pca: PCA
decomposition._truncated_svd: TruncatedSVD
dummy: DummyClassifier
feature_extraction.text: CountVectorizer HashingVectorizer TfidfTransformer TfidfVectorizer
feature_selection._variance_threshold: VarianceThreshold
frozen._frozen: FrozenEstimator
impute._base: MissingIndicator SimpleImputer
isotonic: IsotonicRegression
linear_model._base: LinearRegression
linear_model._logistic: LogisticRegression LogisticRegressionCV
linear_model._ridge: Ridge RidgeCV RidgeClassifier
naive_bayes: BernoulliNB GaussianNB MultinomialNB
pipeline: FeatureUnion Pipeline
preprocessing._data: MaxAbsScaler MinMaxScaler Normalizer PowerTransformer QuantileTransformer
preprocessing._data: RobustScaler StandardScaler
preprocessing._discretization: KBinsDiscretizer
preprocessing._encoders: OneHotEncoder OrdinalEncoder
preprocessing._function_transformer: FunctionTransformer
preprocessing._label: LabelBinarizer LabelEncoder
preprocessing._polynomial: PolynomialFeatures
preprocessing._target_encoder: TargetEncoder
utils._metadata_requests: MetadataRequest MethodMetadataRequest
"""

_TORCH = """
nn.modules.activation: GELU MultiheadAttention PReLU ReLU Sigmoid
nn.modules.container: ModuleDict ModuleList Sequential
nn.modules.dropout: Dropout
nn.modules.linear: Identity Linear NonDynamicallyQuantizableLinear
nn.modules.normalization: LayerNorm
nn.modules.sparse: Embedding
nn.modules.transformer: TransformerEncoder TransformerEncoderLayer
"""

# Attributes that name folders of the machine that fitted, by the class. They are read as None: a
# service has no use for a cache, and what lies in one may be pickled, so that it would run code.
CACHES = {
    "skmars.encoding._multimodal.MultimodalEncoder": "cache",
    "sklearn.pipeline.Pipeline": "memory",
}

# Types and functions that are values of parameters, by name.
_CONSTANTS = {f"builtins.{t.__name__}": t for t in (bool, float, int, object, str)}
_CONSTANTS |= {
    f"numpy.{t.__name__}": t
    for t in (
        *(np.bool_, np.float16, np.float32, np.float64, np.str_, np.object_),
        *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    )
}
_NAMES = {id(constant): name for name, constant in _CONSTANTS.items()}  # they live forever
_TORCH_CONSTANTS = (
    *("torch.bfloat16", "torch.bool", "torch.float16", "torch.float32", "torch.float64"),
    *("torch.int32", "torch.int64", "torch.uint8"),
    *("torch.nn.functional.gelu", "torch.nn.functional.relu"),
)

_allowed_by_users: dict[str, type] = {}


def allow(cls: type) -> None:
    """Let objects of a class be stored in folders, and made of them, in this process.

    Parameters
    ----------
    cls : type

    Raises
    ------
    TypeError
        If `cls` is no class, or one whose objects are not made of state alone.
    """
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a class, got {cls!r}. Pass type(obj), not an object.")
    if issubclass(cls, _MORE_THAN_ATTRIBUTES):
        raise TypeError(
            f"objects of {name_of(cls)} can't be stored: they do not consist of attributes alone, "
            "as the class inherits from a built-in type."
        )
    _allowed_by_users[name_of(cls)] = cls


# Types whose content is no attribute, so that state alone would lose it.
_MORE_THAN_ATTRIBUTES = (
    *(int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset),
    *(type, BaseException, np.ndarray, np.generic),
)


def name_of(cls: type) -> str:
    """Return the name of a class as it stands in folders."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_allowed(cls: type) -> bool:
    """Return whether objects of a class can be stored and made again."""
    name = name_of(cls)
    if _allowed_by_users.get(name) is cls:
        return True
    return name in known_names() and class_named(name) is cls


def class_named(name: str) -> Any:
    """Return the class of a name that is allowed.

    Raises
    ------
    ValueError
        If it is not.
    """
    if name in _allowed_by_users:
        return _allowed_by_users[name]
    if name not in known_names():
        raise ValueError(
            f"it holds an object of the class {name!r}, which is none of those that are read. "
            "If it is yours, register it before: skmars.persistence.register(cls)."
        )
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


@cache
def known_names() -> frozenset[str]:
    """Return the names of all classes that are allowed in every process."""
    tables = {"skmars": _SKMARS, "sklearn": _SKLEARN, "torch": _TORCH}
    names: set[str] = set()
    for package, table in tables.items():
        for line in table.split("\n"):
            module, _, classes = line.partition(":")
            names.update(f"{package}.{module}.{each}" for each in classes.split())
    return frozenset(names)


def constant_name(value: Any) -> str | None:
    """Return the name of a type or function that can be the value of a parameter, or None."""
    name = _NAMES.get(id(value))
    if name is None:
        module = getattr(value, "__module__", None) or type(value).__module__
        if str(module).startswith("torch"):
            return _torch_names().get(id(value))
    return name


def constant_named(name: str) -> Any:
    """Return the type or function of such a name; ValueError if there is none."""
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    if name in _TORCH_CONSTANTS:
        return _torch_constant(name)
    raise ValueError(f"it names {name!r}, which is none of the types and functions that are read.")


@cache
def _torch_names() -> dict[int, str]:
    return {id(_torch_constant(name)): name for name in _TORCH_CONSTANTS}


def _torch_constant(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)
