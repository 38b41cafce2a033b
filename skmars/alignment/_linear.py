"""The estimator `LinearAligner`: alignments in closed form, to compare the network with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skmars.alignment._linear_encoder import LinearEncoder
from skmars.alignment._linear_maps import Method, fit_maps
from skmars.alignment._modalities import (
    block_sizes,
    measure_views,
    modality_names,
    occurring_items,
)
from skmars.alignment._parameters import MOST, WIDTH
from skmars.data._checks import as_impressions, check_columns, check_range
from skmars.utils._base import (
    ColumnsOutMixin,
    ImpressionsTransformerMixin,
    SkmarsMixin,
    all_or_nothing,
    with_callbacks,
)

# Items (or rows) on which the space is measured, at most.
MAX_SAMPLE = 2000


class LinearAligner(
    SkmarsMixin,
    ColumnsOutMixin,
    ImpressionsTransformerMixin,
    ClassNamePrefixFeaturesOutMixin,
    BaseEstimator,
):
    """Aligns modalities by a linear map each, in closed form and without clicks.

    What :class:`SteinAligner` is to be compared with: each modality's features are centred (the
    columns of arrays also scaled), reduced to principal components, mapped, and scaled to unit
    length. An item's embedding is the
    mean over the modalities that it has, a user's the mean over the items of the history.

    Parameters
    ----------
    method : {"cca", "procrustes", "mean"}, default="cca"
        "cca": the canonical variates of two modalities, which are correlated as strongly as linear
        maps allow, scaled to equal variance. "procrustes": the rotation that brings each modality
        closest to the first one, which keeps all cosines within a modality. "mean": no map, so
        that coordinates of different modalities have nothing to do with each other.
    n_components : int, default=64
        So many principal components of each modality at most. The space is as wide as the
        widest of the modalities then, those of fewer columns being filled with zeros, and with
        "cca" as wide as the narrowest.
    modalities : sequence, default=None
        For impressions: names of the modalities to use. Default: all that the catalogue has
        features of. For arrays: number of columns of each block. Default: two halves.
    random_state : int, RandomState instance or None, default=None
        Of the principal components, which are computed by a randomised method where there are
        many. Pass an int for the same result on every call.

    Attributes
    ----------
    encoder_ : LinearEncoder
        The maps, one a modality: embeds catalogues, users and arrays.
    alignment_ : float
        Mean cosine of the modality embeddings of an item, see
        :func:`skmars.metrics.alignment_score`. NaN with less than two modalities. Like the next
        two: over at most 2,000 items (or rows) of fit.
    uniformity_ : float
        Mean over the modalities of :func:`skmars.metrics.uniformity_score`.
    effective_rank_ : float
        Mean over the modalities of :func:`skmars.metrics.effective_rank`.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where they have some.

    See Also
    --------
    SteinAligner : Learns the space from clicks, too, and has item factors.
    sklearn.cross_decomposition.CCA : What "cca" is computed with.
    scipy.linalg.orthogonal_procrustes : What "procrustes" is computed with.

    Notes
    -----
    It is fitted to the items that occur in the rows of fit; the clicks play no part. "cca" and
    "procrustes" compare the items that have both modalities. An item without any modality has the
    embedding zero, which later steps take for none.

    There are no item factors, and item ids play no part, so that ``fit(X).transform(X)`` equals
    ``fit_transform(X)``.

    References
    ----------
    H. Hotelling, "Relations Between Two Sets of Variates", Biometrika 1936.

    P. Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika
    1966.

    Examples
    --------
    >>> import numpy as np
    >>> from skmars.alignment import LinearAligner
    >>> rng = np.random.RandomState(0)
    >>> latent = rng.normal(size=(200, 4))
    >>> X = np.hstack([latent @ rng.normal(size=(4, 8)), latent @ rng.normal(size=(4, 6))])
    >>> aligner = LinearAligner("cca", modalities=[8, 6]).fit(X)
    >>> aligner.transform(X).shape
    (200, 4)
    >>> round(aligner.alignment_, 3)
    1.0

    In the place of `SteinAligner`:

    >>> from skmars import make_mars, make_multimodal_ctr
    >>> X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    >>> mars = make_mars("paper", align=LinearAligner("procrustes"), random_state=0)
    >>> mars.set_params(ctr__max_iter=1).fit(X, y).predict_proba(X[:3]).shape
    (3, 2)
    """

    encoder_: LinearEncoder
    alignment_: float
    uniformity_: float
    effective_rank_: float
    _columns_out: list[str] | None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "method": [StrOptions({"cca", "procrustes", "mean"})],
        "n_components": [WIDTH],
        "modalities": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        method: Method = "cca",
        *,
        n_components: int = 64,
        modalities: Sequence[Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.method = method
        self.n_components = n_components
        self.modalities = modalities
        self.random_state = random_state

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> LinearAligner:
        """Learn the maps.

        Parameters
        ----------
        X : Impressions, table or array-like of shape (n_samples, n_features)
            Impressions whose catalogue has modality features, a pandas, polars or pyarrow
            table of such (see `Impressions.from_frame`), or a plain array of views.
        y : ignored

        Returns
        -------
        self : LinearAligner

        Raises
        ------
        ValueError
            If a parameter is out of its range, the catalogue has no features of a modality,
            features hold NaN or infinity, "cca" gets more than two modalities, or fewer than two
            items have a modality (or both that are compared).
        """
        self._validate_params()
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._fit(X)
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=self._fitted_attributes
        )
        return self

    def _fit(self, X: Any) -> None:
        impressions = as_impressions(X)
        names: list[Any]
        if impressions is None:
            X = self._check_array(X, reset=True, ensure_min_samples=2)
            sizes = block_sizes(self.modalities, X.shape[1])
            names = [f"block {k}" for k in range(len(sizes))]
            views = np.split(X.astype(np.float64), np.cumsum(sizes)[:-1], axis=1)
            there = [np.ones(len(X), dtype=bool)] * len(views)
        else:
            X = impressions
            names = modality_names(self.modalities, X.catalog)
            if not names:
                raise ValueError(
                    "modalities=() leaves LinearAligner nothing to align. Name modalities, or use "
                    "SteinAligner, which can learn from ids alone."
                )
            views, there = LinearEncoder.read(X.catalog, names, occurring_items(X))
        self._check_views(names, there)
        seed = int(check_random_state(self.random_state).randint(MOST))
        maps = fit_maps(
            views, there, self.method, self.n_components, seed, scale_columns=impressions is None
        )
        self.encoder_ = LinearEncoder(dict(zip(names, maps)))
        sample = np.random.RandomState(seed).permutation(len(there[0]))[:MAX_SAMPLE]
        unit = [each(view[sample]) for each, view in zip(maps, views)]
        space = measure_views(unit, [has[sample] for has in there])
        self.alignment_, self.uniformity_, self.effective_rank_ = space
        self._columns_out = None
        if impressions is not None:
            check_columns(self, impressions, reset=True)
            self._columns_out = impressions.with_user_encoder(self.encoder_).columns

    def _fitted_attributes(self) -> dict[str, Any]:
        return {"encoder_": self.encoder_, "_columns_out": self._columns_out}

    def transform(self, X: Any) -> Any:
        """Attach item and user embeddings, or embed the rows of an array.

        Parameters
        ----------
        X : Impressions, table or array-like of shape (n_samples, n_features)
            What `fit` took. Users and items may be new.

        Returns
        -------
        Impressions or ndarray of shape (n_samples, n_components)
            The impressions with ``catalog.embedding``, computed once for equal catalogues, and with
            `user_embedding`, which is computed on access, for the rows selected by then. For an
            array, the mean of the views' embeddings.
        """
        check_is_fitted(self)
        impressions = as_impressions(X)
        if (impressions is None) != (self._columns_out is None):
            kinds = ["a plain array", "impressions"]
            raise TypeError(
                f"LinearAligner was fitted on {kinds[impressions is None]}, but X is "
                f"{kinds[impressions is not None]}. Fit it on the kind of input that it is to "
                "transform."
            )
        if impressions is None:
            X = self._check_array(X, reset=False)
            return self._as_output(self.encoder_.embed_rows(X), X)
        check_columns(self, impressions, reset=False)
        catalog = self.encoder_.embed_catalog(impressions.catalog)
        return impressions.with_catalog(catalog).with_user_encoder(self.encoder_)

    @property
    def _n_features_out(self) -> int:
        return self.encoder_.width

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_array(self, X: Any, **options: Any) -> NDArray[np.floating]:
        X = validate_data(self, X, dtype=[np.float64, np.float32], **options)
        check_range(X, getattr(self, "feature_names_in_", None))
        return X

    def _check_views(self, names: Sequence[Any], there: Sequence[NDArray[np.bool_]]) -> None:
        if self.method == "cca" and len(names) > 2:
            raise ValueError(
                f"method='cca' aligns two modalities, but there are {len(names)}: {names}. Name "
                "two with modalities=, or use method='procrustes'."
            )
        for name, has in zip(names, there):
            both = has if self.method == "mean" else has & there[0]
            if np.count_nonzero(both) < 2:
                also = "" if both is has or name == names[0] else f" and of {names[0]!r}"
                raise ValueError(
                    f"Fewer than two items of X have features of {name!r}{also}, too few to learn "
                    "from. Leave the modality out with modalities=."
                )
