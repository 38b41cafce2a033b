"""The estimator `SteinAligner`: parameters, validation and fitted attributes."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skmars.alignment._parameters import MOST, OF_THE_NETWORK, AlignerParameters, check_folds
from skmars.data import Impressions
from skmars.data._checks import (
    as_impressions,
    check_columns,
    check_range,
    check_sample_weight,
    require_impressions,
)
from skmars.data._folds import mark_own
from skmars.utils._base import (
    ColumnsOutMixin,
    ImpressionsTransformerMixin,
    SkmarsMixin,
    all_or_nothing,
    require_fitted,
    with_callbacks,
)

if TYPE_CHECKING:
    from skmars.alignment._clicks import ClickObjective
    from skmars.alignment._multiview import MultiviewObjective


class SteinAligner(
    SkmarsMixin,
    ColumnsOutMixin,
    ImpressionsTransformerMixin,
    ClassNamePrefixFeaturesOutMixin,
    AlignerParameters,
):
    """Embeds text, image and id of items in one space, and users with them.

    A network projects the modality features of each item to `n_components`, lets the image
    query the text and the result query the sequence of ids, and takes the mean over a history
    for the user. It is trained end to end on

    .. math:: L_{CTR} + \\beta \\, L_{Stein}, \\qquad L_{Stein} = -L_{align} - \\lambda H,

    where `L_align` rewards text and image of an item for being close and `H`, by the Stein
    gradient estimator, rewards all items for using the whole sphere.

    With the default ``causal=True`` one pass over a user's log serves all impressions of that
    user. On a plain 2-D array whose columns are two or more blocks (views of the same rows), it is
    an unsupervised aligner in the manner of :class:`~sklearn.cross_decomposition.CCA`: one linear
    projection a block, and `L_Stein` alone.

    Parameters
    ----------
    n_components : int, default=256
        Dimension of the aligned space.
    id_dim : int, default=128
        Dimension of the id embedding.
    n_heads : int, default=2
        Attention heads; divides `n_components` and `id_dim`. 1 is as printed.
    alignment : {"stein", "infonce"}, default="stein"
        "infonce" puts the contrastive loss of CLIP (both directions, temperature 0.07) in the
        place of `L_Stein`, to compare with; `lam`, `entropy` and `eta` are not used then.
    lam : float, default=0.1
        λ, the weight of the entropy within `L_Stein`. The entropy is taken per dimension.
    beta : float, default=0.1
        β, the weight of `L_Stein` beside the click loss.
    entropy : {"maximize", "paper"} or None, default="maximize"
        "maximize" spreads the space, as the paper's text intends; "paper" is the sign of its
        Eq. 7-8 as printed, which collapses it; None leaves the term out.
    normalize : bool, default=True
        Whether `L_Stein` is of embeddings of unit length, and of the entropy per dimension. With
        False (as printed) neither: the length of the embeddings is then free, so that the entropy
        lets the space grow without bound ("maximize") or shrink to a point ("paper").
    eta : float, default=0.1
        Ridge of the Stein score estimator.
    click_score : {"affinity", "network"}, default="affinity"
        What the click loss scores. "affinity": the feed-forward network of Eq. 12 is part of
        the embeddings of items, and a user's mean over the history (Eq. 13) is multiplied with the
        embedding of the target. "network" (as printed): the embedding is what Eq. 11 gives, the
        target stands behind the user's history in one sequence, and the feed-forward network maps
        its embedding there to the score. Takes as many passes as there are rows, and the mean over
        the history, by which users are compared later, is not trained itself.
    residual : bool, default=True
        Whether Eq. 4, 11 and 12 have a residual (Eq. 4 and 11 with LayerNorm) as Eq. 10 has. False
        is as printed: values of ids are all that is left then, among which the modalities choose.
        An item by itself has nothing to choose from, so that its embedding ignores its content.
    causal : bool, default=True
        False is as printed: every row's history is encoded on its own and in both directions.
        Takes as many passes as there are distinct histories.
    max_length : int, default=200
        How far back attention and the mean over the history reach, in items.
    modalities : sequence, default=None
        For impressions: names of the modalities to use, in the order of fusion (each queries
        those before it). Default: all that the catalogue has features of; ``()`` uses ids
        alone. For arrays: number of columns of each block. Default: two halves.
    n_factors : int, default=64
        Dimension of the item factors: one more modality, "factors", from a truncated SVD of the
        user-item matrix (the histories of fit). Items of fewer than three users lack it; for later
        steps, their factors are predicted from the other modalities by ridge regression. 0 leaves
        item factors out, as the paper does. Not used on arrays.
    cv : int, default=5
        Number of folds of users. In `fit`, and in what `fit_transform` returns, each row sees item
        factors that were made without the users of its own fold, so that they do not leak the
        click that is to be predicted. A hash of the id assigns users to folds, in all steps alike.
        Not used on arrays, where scikit-learn's tools may set a list of splits.
    max_iter : int, default=10
        Epochs.
    batch_size : int or "auto", default="auto"
        Rows (impressions) a step. Users are never divided, so that a batch holds whole users
        of about this many rows together, and fewer when their histories are long. "auto" is
        a sixteenth of the rows, between 128 and 4096.
    learning_rate : float, default=1e-3
        Of AdamW.
    weight_decay : float, default=0.01
        Weight decay of AdamW; times `learning_rate` below 1.
    dropout : float, default=0.3
        Dropout in the network. Also how often the id of an item is masked in training, by which
        the embedding that unknown items share is learned. Not used on arrays.
    early_stopping : bool, default=False
        Whether to set rows aside, score them after each epoch (AUC of clicks; on arrays minus
        the loss), stop when that no longer improves, and keep the best weights.
    validation_fraction : float, default=0.1
        Part of the rows to set aside: of impressions, the last ones of users, as
        :class:`~skmars.DINClassifier` does.
    n_iter_no_change : int, default=5
        Stop after so many epochs without an improvement by `tol` of the validation score, or
        of the training loss without `early_stopping`. An epoch of less than 50 steps counts
        for less: at least 50 times as many steps go by before training stops.
    tol : float, default=1e-4
        What counts as an improvement.
    warm_start : bool, default=False
        Whether `fit` continues from the weights of the last fit. Items that are new then get
        an embedding of their own, which starts where unknown items are.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same result on every call.
    device : {"auto", "cpu", "cuda", "cuda:0", ...}, default="auto"
        Where to train and to compute embeddings. What is kept is always on the CPU.
    verbose : int, default=0
        Prints a line an epoch if positive.

    Attributes
    ----------
    encoder_ : AlignmentEncoder or MultiviewEncoder
        The trained network, small and picklable: embeds catalogues and users (or arrays).
    loss_curve_ : list of float
        Mean training loss of each epoch, continued by `partial_fit` and `warm_start`.
    validation_scores_ : list of float or None
        Score of the rows set aside after each epoch; None without `early_stopping`.
    alignment_ : float
        Mean cosine of matched modality embeddings after training, see
        :func:`skmars.metrics.alignment_score`. NaN with less than two modalities. Like the next
        two: of what `L_Stein` acts on, over at most 2,000 items (or rows) of fit.
    uniformity_ : float
        Mean over the modalities of :func:`skmars.metrics.uniformity_score`. NaN, as the next, if
        no modality has two items.
    effective_rank_ : float
        Mean over the modalities of :func:`skmars.metrics.effective_rank`.
    n_iter_ : int
        Number of epochs.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where they have some.

    See Also
    --------
    MultimodalEncoder : Makes the modality features.
    SequenceRetrievalAugmenter : Finds donors by item factors and other features.
    sklearn.cross_decomposition.CCA : The linear classic for two views.

    Notes
    -----
    An item that lacks a modality is left out of `L_Stein`; in the network, the mean of the
    modalities that the item has replaces it.

    ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``, as with scikit-learn's
    :class:`~sklearn.preprocessing.TargetEncoder`: `transform` gives what was learnt of all users,
    `fit_transform` gives each row what was learnt without the users of its fold (see `cv`). What
    is trained on these rows next must have the latter, as it has in a `Pipeline`.

    Embeddings of users and of items each have a common offset. Centre both before you compare
    them by cosine, as `SequenceRetrievalAugmenter` does.

    References
    ----------
    "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR Prediction",
    arXiv 2509.01184, Eq. 3-13.

    Li and Turner, "Gradient Estimators for Implicit Models", ICLR 2018.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML
    2021 (``alignment="infonce"``).

    Sarwar et al., "Application of Dimensionality Reduction in Recommender System", 2000
    (`n_factors`).

    Examples
    --------
    Two views of the same rows:

    >>> import numpy as np
    >>> from skmars.alignment import SteinAligner
    >>> rng = np.random.RandomState(0)
    >>> latent = rng.normal(size=(200, 4))
    >>> X = np.hstack([latent @ rng.normal(size=(4, 8)), latent @ rng.normal(size=(4, 6))])
    >>> aligner = SteinAligner(16, modalities=[8, 6], max_iter=100, random_state=0).fit(X)
    >>> aligner.transform(X).shape
    (200, 16)
    >>> aligner.alignment_ > 0.9
    True

    Impressions of a catalogue with features:

    >>> from skmars.datasets import make_multimodal_ctr
    >>> X, y = make_multimodal_ctr(n_users=60, n_items=40, random_state=0)
    >>> features = {"text": rng.normal(size=(40, 5)), "image": rng.normal(size=(40, 3))}
    >>> X = X.with_catalog(X.catalog.with_features(features))
    >>> aligner = SteinAligner(16, id_dim=8, max_iter=2, random_state=0).fit(X, y)
    >>> aligned = aligner.transform(X)
    >>> aligned.catalog.embedding.shape
    (40, 16)
    >>> aligned[:5].user_embedding.shape
    (5, 16)
    """

    encoder_: Any  # AlignmentEncoder, or MultiviewEncoder for arrays
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    n_iter_: int
    _columns_out: list[str] | None
    _network_shape: dict[str, Any]

    @all_or_nothing
    @with_callbacks
    def fit(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> SteinAligner:
        """Learn the aligned space.

        Parameters
        ----------
        X : Impressions, table or array-like of shape (n_samples, n_features)
            Impressions whose catalogue has modality features, a pandas, polars or pyarrow
            table of such (see `Impressions.from_frame`), or a plain array of views.
        y : array-like of shape (n_samples,), default=None
            Clicks: two classes, the larger one is a click. Needed for impressions, ignored
            for arrays.
        sample_weight : array-like of shape (n_samples,), default=None
            How often a row counts: in the click loss (and the score of rows set aside); for arrays
            in `L_Stein`. A weight of zero leaves a row out of them.

        Returns
        -------
        self : SteinAligner

        Raises
        ------
        ValueError
            If a parameter is out of its range, the catalogue has no features of a modality,
            features hold NaN or infinity, or weights are negative or leave one class only.
        FloatingPointError
            If the loss or what was learned is not finite.
        """
        self._fit(X, y, sample_weight)
        return self

    @all_or_nothing
    def partial_fit(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> SteinAligner:
        """Go through these rows once, starting from the present state.

        Items that are new get an embedding of their own. The scaling of features and columns
        is that of the first call; the optimiser starts anew in every call.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; `y` may hold one class only if it is 0 or 1.

        Returns
        -------
        self : SteinAligner
        """
        self._fit(X, y, sample_weight, incremental=True)
        return self

    @all_or_nothing
    @with_callbacks
    def fit_transform(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Any:
        """Fit, and give each row what was learnt without the users of its fold (see `cv`).

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        Impressions or ndarray of shape (n_samples, n_components)
            As of `transform`, but item factors and all that is made of them, embeddings of items
            and users, do not know what the users of the row's fold did. Arrays are transformed.
        """
        from skmars.alignment._encoder import OutOfFoldEncoder

        impressions = as_impressions(X)
        if impressions is None:
            self._fit(X, y, sample_weight)
            return self.transform(X)
        objective = cast("ClickObjective", self._fit(impressions, y, sample_weight))
        encoder = self.encoder_
        folds = objective.fold_encoders(encoder)
        seen = [each.embed_catalog(impressions.catalog) for each in folds]
        attached = self._attach(impressions)
        return (
            attached.with_catalog(attached.catalog.with_folds(seen))
            .with_user_encoder(OutOfFoldEncoder(encoder, folds) if folds else encoder)
            .with_fold(objective.fold)
        )

    def transform(self, X: Any) -> Any:
        """Attach aligned item and user embeddings, or embed the rows of an array.

        Parameters
        ----------
        X : Impressions, table or array-like of shape (n_samples, n_features)
            What `fit` took. Users and items may be new.

        Returns
        -------
        Impressions or ndarray of shape (n_samples, n_components)
            The impressions with ``catalog.embedding`` and ``catalog.features["factors"]``,
            computed once for equal catalogues, and with `user_embedding`, which is computed on
            access, for the rows selected by then. For an array, the mean of the views' embeddings.
        """
        require_fitted(self, "encoder_")
        impressions = as_impressions(X)
        self._check_same_input(impressions is not None)
        if impressions is None:
            X = self._check_array(X, reset=False)
            return self._as_output(self.encoder_(X), X)
        check_columns(self, impressions, reset=False)
        out = self._attach(impressions.with_fold(None))
        factors = self.encoder_.factors
        return (
            out if factors is None else mark_own(out, factors.users.has_later_events(impressions))
        )

    def updated(self, X: Any, y: object = None) -> SteinAligner:
        """Return an aligner with the same space, and item factors of all rows up to now.

        The network is not trained: every further step of it moves the space, and all that was
        made in it. The factors keep their basis, so that a classifier that has learnt to read them
        can go on; new items of enough users get factors, too. See `skmars.update`.

        Parameters
        ----------
        X : Impressions or table
            All rows: those of the fit, and later ones.
        y : ignored

        Returns
        -------
        SteinAligner
            A fitted copy; this aligner stays as it is.

        Raises
        ------
        TypeError
            If the aligner was fitted to arrays, or `X` is one.
        ValueError
            If `X` lacks rows of a user whom the fit knew.
        """
        check_is_fitted(self)
        rows = require_impressions(X, estimator_name=type(self).__name__)
        self._check_same_input(True)
        check_columns(self, rows, reset=False)
        if self.encoder_.factors is not None:
            self.encoder_.factors.users.check_goes_on(rows, type(self).__name__)
        new = copy(self)
        new.encoder_ = self.encoder_.continued(rows)
        return new

    def _attach(self, X: Impressions) -> Impressions:
        encoder = self.encoder_
        return X.with_catalog(encoder.embed_catalog(X.catalog)).with_user_encoder(encoder)

    @property
    def _n_features_out(self) -> int:
        return self.encoder_.network.n_components

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # --- fitting --------------------------------------------------------------------------

    def _resumes(self) -> bool:
        return self.warm_start and hasattr(self, "encoder_")

    def _fit(
        self,
        X: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        *,
        incremental: bool = False,
    ) -> ClickObjective | MultiviewObjective:
        """Train, and set the fitted attributes; return what was trained for."""
        import torch

        from skmars.alignment._clicks import click_objective, click_target
        from skmars.alignment._multiview import multiview_objective
        from skmars.utils._torch import DrawFrom
        from skmars.utils._training import EpochCallbacks

        self._check_parameters()
        resume = hasattr(self, "encoder_") if incremental else self._resumes()
        shape = self._network_parameters()
        if resume:
            self._check_same_network(shape)
        known = self.encoder_ if resume else None
        first = int(check_random_state(self.random_state).randint(MOST))
        # A later call must not repeat the draws of the earlier ones, but hold out the same rows.
        seeds = first, (first + (self.n_iter_ if resume else 0)) % MOST
        impressions = as_impressions(X)
        if resume:
            self._check_same_input(impressions is not None)
        objective: ClickObjective | MultiviewObjective
        columns_out = callbacks = weight = None
        with DrawFrom(torch.Generator().manual_seed(seeds[1])):
            if impressions is None:
                X = self._check_array(X, reset=not resume, ensure_min_samples=2)
                if sample_weight is not None:
                    weight = check_sample_weight(sample_weight, None, X)
                    X, weight = X[weight > 0], weight[weight > 0]
                    check_array(X, ensure_min_samples=2, estimator=self)
                objective = multiview_objective(X, known, self, seeds, weight)
            else:
                X = impressions
                check_folds(self.cv)
                y = click_target(y, len(X), type(self).__name__, one_class=incremental)
                if sample_weight is not None:
                    weight = check_sample_weight(sample_weight, None if incremental else y, y)
                objective = click_objective(X, y, known, self, seeds, weight)
                check_columns(self, X, reset=not resume)
                columns_out = X.with_user_encoder(objective.encoder()).columns
        max_iter = 1 if incremental else self.max_iter
        if not incremental:
            context = self._init_callback_context(max_subtasks=max_iter)

            def fitted() -> dict[str, Any]:
                return {"encoder_": objective.encoder(), "_columns_out": columns_out}

            callbacks = EpochCallbacks(self, context, X, y, fitted)
        result, space = objective.train(self, max_iter, callbacks)
        losses, scores = result.loss_curve, result.validation_curve
        if resume:
            losses, scores = self.loss_curve_ + losses, (self.validation_scores_ or []) + scores
        self.encoder_ = objective.encoder()
        self.loss_curve_, self.validation_scores_ = losses, scores or None
        self.n_iter_ = len(losses)
        self.alignment_, self.uniformity_, self.effective_rank_ = space
        self._columns_out, self._network_shape = columns_out, shape
        if callbacks is not None:
            callbacks.finish()
        return objective

    def _network_parameters(self) -> dict[str, Any]:
        """Return the parameters that a trained network can't change."""
        shape = {name: getattr(self, name) for name in OF_THE_NETWORK}
        if self.modalities is not None:
            shape["modalities"] = list(self.modalities)
        return shape

    def _check_same_network(self, shape: dict[str, Any]) -> None:
        for name, before in self._network_shape.items():
            if shape[name] != before:
                raise ValueError(
                    f"SteinAligner goes on from a fit with {name}={before!r}, but now has "
                    f"{name}={shape[name]!r}, which makes another network. Set {name} back to go "
                    "on, or fit anew with warm_start=False."
                )

    def _check_array(self, X: Any, **options: Any) -> NDArray[np.floating]:
        X = validate_data(self, X, dtype=[np.float64, np.float32], **options)
        check_range(X, getattr(self, "feature_names_in_", None))
        return X

    def _check_same_input(self, impressions: bool) -> None:
        if impressions != (self._columns_out is not None):
            kinds = ["a plain array", "impressions"]
            raise TypeError(
                f"SteinAligner was fitted on {kinds[not impressions]}, but X is "
                f"{kinds[impressions]}. Fit it on the kind of input that it is to transform."
            )
