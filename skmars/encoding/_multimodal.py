"""The estimator `MultimodalEncoder`: parameters, validation and fitted attributes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, ClassVar, Self

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmars.data import Impressions, ItemCatalog
from skmars.data._checks import check_columns, require_impressions
from skmars.data._content import is_absent
from skmars.data._memo import Memo
from skmars.encoding._cache import cache_folder, encoded_by
from skmars.encoding._catalogs import (
    content_of,
    lacks,
    none_usable,
    nothing_usable,
    precomputed_of,
    warn_masked,
    with_features_of,
)
from skmars.encoding._content import NO_CONTENT, Items
from skmars.encoding._encode import Features, ModalityEncoder, encode, fit_encoder, watcher
from skmars.encoding._pretrained import clone_sharing
from skmars.encoding._spec import PRECOMPUTED, as_transformer, content_kind, default_encoder
from skmars.utils._base import (
    ImpressionsTransformerMixin,
    SkmarsMixin,
    require_fitted,
    with_callbacks,
)
from skmars.utils._parameters import Number


@dataclass(frozen=True)
class _Modality:
    """A fitted encoder and the content it encodes; None and None for precomputed vectors."""

    encoder: ModalityEncoder | None = None
    items: Items | None = None


class MultimodalEncoder(SkmarsMixin, ImpressionsTransformerMixin, BaseEstimator):
    """Encode the text, images and other content of the items, one vector an item and modality.

    Every distinct content is encoded once by an encoder, whatever clones, folds and candidates
    of a search do: vectors are cached by a digest of the encoder and one of the content,
    in memory, and with `cache` also in a folder that processes share. Content that is missing
    or can't be read is masked; it never stops a fit.

    Parameters
    ----------
    encoders : dict of str to encoder, default=None
        Encoder of each modality, by the name of the catalogue's content. None encodes the
        ``"text"`` and ``"image"`` content that the catalogue has with :class:`TfidfEncoder` and
        :class:`ImageStatisticsEncoder`, which need no download. An encoder is

        - a scikit-learn transformer of a list of strings or of RGB PIL images (or, for other
          modalities, of raw contents);
        - a `SentenceTransformer`, its name, or its folder;
        - ``"open_clip:MODEL/WEIGHTS"``: WEIGHTS is a published tag, a file, or empty for random;
        - ``"timm:MODEL/FILE"``, an image model with a file of weights, or ``"timm:MODEL"`` with
          published weights;
        - ``"precomputed"``: the content is a column of vectors, or the catalogue has features of
          that name.
    cache : str, Path or joblib.Memory, default=None
        Folder that keeps vectors (and fitted encoders, as pickles) after the process ends. Use one
        where worker processes should share what they encode.
    batch_size : int, default=64
        Number of items read and encoded at a time (more for the default encoder of texts).
    device : {"auto", "cpu", "cuda", "cuda:0", ...}, default="auto"
        Where the models that `encoders` names run.
    max_image_pixels : int, default=89_478_485
        Larger images are masked without being decoded, and so are contents in files that are too
        large for one: more than eight bytes a pixel, and a mebibyte. (Pillow refuses any beyond
        twice its own ``Image.MAX_IMAGE_PIXELS``, which is this default.)
    random_state : int, RandomState instance or None, default=None
        Seed of the randomised SVD of the default text encoder and of random weights. None is
        the fixed seed 0, so that the same content has the same features in every fit.
    verbose : int, default=0
        1 prints a line for each modality, 2 one for each batch.

    Attributes
    ----------
    encoders_ : dict of str to transformer or "precomputed"
        The fitted encoders.
    catalog_ : ItemCatalog
        The catalogue of `fit` with its features.
    missing_ : dict of str to ndarray
        Ids of the items that lack usable content, by modality. Their features are zero, and
        ``catalog_.missing`` masks them.
    n_encoded_ : dict of str to int
        How many distinct contents `fit` encoded, by modality: the others came from the cache.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of `X`.

    See Also
    --------
    SentenceTransformerEncoder, OpenClipEncoder, TimmImageEncoder : Pretrained models.

    Notes
    -----
    Vectors of an encoder that needs a fit (scikit-learn tag `requires_fit`) are reused only if
    its parameters and the content that it is fitted on are the same. So is the content of a file
    that a parameter or the code of an encoder names. Each batch is a task for
    callbacks; they can't stop it, because all items need features.

    References
    ----------
    MARS, arXiv 2509.01184, section 3.2: the modality features before the projections of Eq. 3.

    Examples
    --------
    >>> from skmars import ItemCatalog, MultimodalEncoder
    >>> catalog = ItemCatalog([7, 8, 9], content={"text": ["a red train", "a blue train", None]})
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # that item 9 has no text
    ...     encoder = MultimodalEncoder().fit(catalog)
    >>> encoder.transform(catalog)
    ItemCatalog(3 items, content: text, features: text 4)
    >>> encoder.missing_
    {'text': array([9])}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "encoders": [dict, None],
        "cache": [str, os.PathLike, joblib.Memory, None],
        "batch_size": [Number(Integral, 1, None, closed="left")],
        "device": [str],
        "max_image_pixels": [Number(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        encoders: Mapping[str, Any] | None = None,
        *,
        cache: Any = None,
        batch_size: int = 64,
        device: str = "auto",
        max_image_pixels: int = 89_478_485,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.encoders = encoders
        self.cache = cache
        self.batch_size = batch_size
        self.device = device
        self.max_image_pixels = max_image_pixels
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the encoders that need it, and encode the catalogue of `X`.

        Parameters
        ----------
        X : Impressions, frame of impressions, or ItemCatalog
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If `X` or an encoder is something else.
        ValueError
            If the catalogue lacks a modality, no item has anything usable, or an encoder
            returns NaN or infinity.
        ImportError
            If an encoder needs a package that is not installed.
        OSError
            If a model is not on this machine and can't be downloaded.

        Warns
        -----
        UserWarning
            If items have no usable content: how many, and the first of them.
        """
        self._validate_params()
        impressions, catalog = self._read(X, None)
        transformers = self._transformers(catalog)
        context = self._init_callback_context(max_subtasks=len(transformers))
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        folder = cache_folder(self.cache)
        fitted: dict[str, _Modality] = {}
        features: dict[str, Features] = {}
        unusable: dict[str, Features] = {}  # modalities that no item has
        for name, transformer in transformers.items():
            modality = _Modality()
            if not isinstance(transformer, str):  # "precomputed"
                kind = content_kind(name, transformer)
                items = Items(content_of(catalog, name), kind, self.max_image_pixels)
                if len(items.problems) == len(catalog):
                    unusable[name] = nothing_usable(items.problems, catalog)
                    continue
                modality = _Modality(
                    fit_encoder(transformer, items, name=name, folder=folder), items
                )
            found = self._features(name, modality, catalog, context)
            if len(found.problems) == len(catalog):
                unusable[name] = found
                continue
            fitted[name], features[name] = modality, found
        if not features:
            raise none_usable(*next(iter(unusable.items())), catalog)
        warn_masked({**features, **unusable}, catalog, "no usable content")
        if impressions is not None:
            check_columns(self, impressions, reset=True)
        else:  # those of an earlier fit
            for attribute in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(attribute, None)
        self.encoders_ = {
            k: PRECOMPUTED if m.encoder is None else m.encoder.transformer
            for k, m in fitted.items()
        }
        self.missing_ = {k: catalog.ids[f.missing] for k, f in (features | unusable).items()}
        self.n_encoded_ = {k: f.n_encoded for k, f in features.items()}
        self.catalog_ = with_features_of(catalog, features)
        pairs = list(zip(catalog.parts, self.catalog_.parts))
        self._encoded_parts = {
            known.fingerprint: made
            for pair in pairs
            for known, made in ((pair[0], pair[1]), (pair[1], pair[1]))
        }
        self._memo: Memo[ItemCatalog] = Memo()
        self._joined: Memo[ItemCatalog] = Memo()  # `catalog_`, extended by the items of others
        self._fitted = fitted
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})
        return self

    def transform(self, X: Any) -> Any:
        """Give the catalogue of `X` its features.

        A catalogue other than that of `fit` is encoded with the fitted encoders; contents that
        were encoded before are not encoded again.

        Parameters
        ----------
        X : Impressions, frame of impressions, or ItemCatalog
            Where its catalogue has nothing but ids, that of `fit` is used instead.

        Returns
        -------
        Impressions or ItemCatalog

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        ValueError
            If the catalogue lacks a modality, or a column of `fit` is missing.
        """
        require_fitted(self, "catalog_")
        impressions, catalog = self._read(X, self.catalog_)
        encoded = catalog.map_parts(self._encoded)
        if impressions is None:
            return encoded
        if hasattr(self, "feature_names_in_"):
            check_columns(self, impressions, reset=False)
        return impressions.with_catalog(encoded)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the columns of the output: those of the input, whose catalogue alone changes.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Returned where `fit` got a catalogue alone.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", input_features)
        return np.asarray([] if names is None else names, dtype=object)

    def _read(self, X: Any, known: ItemCatalog | None) -> tuple[Impressions | None, ItemCatalog]:
        """Return `X` as impressions (None if it is a catalogue), and the catalogue to encode."""
        if isinstance(X, ItemCatalog):
            return None, X
        X = require_impressions(X, estimator_name="MultimodalEncoder")
        first = X.catalog.parts[0]
        if known is not None and not (first.content or first.features or first.attributes):
            first, *more = X.catalog.parts
            known = self._joined.get(first, lambda part: self.catalog_.extend(part.ids))
            for part in more:
                known = known.extend(part.ids)
            X = X.with_catalog(known)
        return X, X.catalog

    def _transformers(self, catalog: ItemCatalog) -> dict[str, Any]:
        """Return the transformer (or "precomputed") of each modality."""
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = 0 if seed is None else check_random_state(seed).randint(2**31 - 1)
        if self.encoders is None:
            present = [
                name
                for name in ("text", "image")
                if not all(map(is_absent, content_of(catalog, name, default=())))
            ]
            if present:
                return {name: default_encoder(name, int(seed)) for name in present}
            if catalog.features:
                return dict.fromkeys(catalog.features, PRECOMPUTED)
            raise lacks(catalog, "text' or 'image")
        if not self.encoders:
            raise ValueError("encoders is empty. Name a modality, or pass None for the defaults.")
        return {
            name: as_transformer(
                name, spec, batch_size=self.batch_size, device=self.device, seed=int(seed)
            )
            for name, spec in self.encoders.items()
        }

    def _encoded(self, part: ItemCatalog) -> ItemCatalog:
        """Return a part of a catalogue with features from the fitted encoders."""
        known = self._encoded_parts.get(part.fingerprint)
        return self._memo.get(part, self._encode) if known is None else known

    def _encode(self, catalog: ItemCatalog) -> ItemCatalog:
        features, broken = {}, {}
        for name, fitted in self._fitted.items():
            modality, own = fitted, self.catalog_.features[name]
            if fitted.encoder is not None and fitted.items is not None:
                known, kind = fitted.items, fitted.items.kind
                # In another process than that of fit, the pickle of the encoder brings its vectors.
                encoded_by(fitted.encoder.key).recall(
                    known.digests, own, self.catalog_.missing[name]
                )
                items = Items(content_of(catalog, name), kind, self.max_image_pixels, known)
                modality = _Modality(fitted.encoder, items)
            found = self._features(name, modality, catalog, None)
            if found.missing.all():
                nothing = np.zeros((len(catalog), own.shape[1]), dtype=np.float32)
                found = replace(found, matrix=nothing)
            elif found.matrix.shape[1] != own.shape[1]:
                raise ValueError(
                    f"The {name} vectors have length {found.matrix.shape[1]}; those that "
                    f"MultimodalEncoder was fitted with have length {own.shape[1]}. Pass vectors "
                    "of that length, or fit again."
                )
            features[name] = found
            # Whoever adds items without content knows it; only unreadable content is reported.
            new = {i: p for i, p in found.problems.items() if p != NO_CONTENT}
            broken[name] = replace(found, problems=new)
        warn_masked(broken, catalog, "unreadable content")
        return with_features_of(catalog, features)

    def _features(
        self, name: str, modality: _Modality, catalog: ItemCatalog, context: Any
    ) -> Features:
        watch = watcher(self, name, context)
        if modality.encoder is None or modality.items is None:
            list(watch([]))  # a task like the others, though nothing is encoded
            return precomputed_of(catalog, name)
        return encode(
            modality.encoder,
            modality.items,
            name=name,
            ids=catalog.ids,
            batch_size=max(self.batch_size, getattr(modality.encoder.transformer, "_at_once", 1)),
            folder=cache_folder(self.cache),
            watch=watch,
        )

    def __sklearn_clone__(self) -> MultimodalEncoder:
        # Models that are passed as objects are shared, not copied.
        new: MultimodalEncoder = clone_sharing(self, "encoders")
        if isinstance(self.encoders, dict):
            new.encoders = {
                k: clone(v) if hasattr(v, "get_params") else v for k, v in self.encoders.items()
            }
        return new

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags
