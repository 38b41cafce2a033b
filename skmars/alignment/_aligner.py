"""The estimator: parameters, validation and fitted attributes; the work is done elsewhere."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from skmars.data import Impressions
from skmars.data._checks import as_impressions, check_columns, check_range
from skmars.data._folds import EVERYBODY, mark_own, user_folds
from skmars.data._holdout import hold_out
from skmars.utils._base import (
    ImpressionsTransformerMixin,
    SkmarsMixin,
    all_or_nothing,
    with_callbacks,
)

if TYPE_CHECKING:
    from skmars.alignment._encoder import AlignmentEncoder

# batch_size="auto" aims at this many steps an epoch, within these bounds.
AUTO_STEPS, AUTO_SMALLEST, AUTO_LARGEST = 16, 128, 4096


class SteinAligner(SkmarsMixin, ImpressionsTransformerMixin, BaseEstimator):
    """Bring text, image and id of items into one space, and users with them.

    A network projects the modality features of each item to `n_components`, lets the image
    query the text and the result query the sequence of ids, and takes the mean over a history
    for the user. It is trained end to end on

    .. math:: L_{CTR} + \\beta \\, L_{Stein}, \\qquad L_{Stein} = -L_{align} - \\lambda H,

    where `L_align` rewards text and image of an item for being close and `H`, by the Stein
    gradient estimator, rewards all items for using the whole sphere.

    With the default ``causal=True`` one pass over a user's log serves all impressions of that
    user, and a user embedding depends on nothing but the history before the impression.

    On a plain 2-D array whose columns are two or more blocks (views of the same rows), it is
    an unsupervised aligner in the manner of :class:`~sklearn.cross_decomposition.CCA`: one
    linear projection a block, and `L_Stein` alone.

    Parameters
    ----------
    n_components : int, default=256
        Dimension of the aligned space.
    id_dim : int, default=128
        Dimension of the id embedding.
    n_heads : int, default=2
        Attention heads; divides `n_components` and `id_dim`.
    lam : float, default=0.1
        λ, the weight of the entropy within `L_Stein`. The entropy is taken per dimension.
    beta : float, default=0.1
        β, the weight of `L_Stein` beside the click loss.
    entropy : {"maximize", "paper"} or None, default="maximize"
        "maximize" spreads the space, as the paper's text intends; "paper" is the sign of its
        Eq. 7-8 as printed, which collapses it; None leaves the term out.
    eta : float, default=0.1
        Ridge of the Stein score estimator.
    residual : bool, default=True
        Whether Eq. 4, 11 and 12 have a residual (and LayerNorm) as Eq. 10 has. Without
        (False, as printed), content only chooses among values of ids.
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
        user-item matrix (the histories of fit), so that the space knows what goes together beside
        what looks alike. Items that fewer than three users touched lack it; for later steps,
        theirs are predicted from the other modalities (ridge regression). 0 leaves them out, as
        the paper does. Not used on arrays.
    cv : int, default=5
        Number of folds of users. In `fit`, and in what `fit_transform` returns, each row sees item
        factors that were made without the users of its own fold, so that they do not know the
        click that is to be predicted. Users are assigned by a hash of their id, in all steps alike.
    max_iter : int, default=10
        Epochs.
    batch_size : int or "auto", default="auto"
        Rows (impressions) a step. Users are never divided, so that a batch holds whole users
        of about this many rows together, and fewer when their histories are long. "auto" is
        a sixteenth of the rows, between 128 and 4096.
    learning_rate : float, default=1e-3
        Of AdamW.
    weight_decay : float, default=0.01
        Weight decay of AdamW.
    dropout : float, default=0.3
        Dropout in the network. Also how often an item hides its id in training, by which the
        embedding that unknown items share is learned. Not used on arrays.
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
    device : {"auto", "cpu", "cuda"}, default="auto"
        Where to train and to compute embeddings. What is kept is always on the CPU.
    verbose : int, default=0
        Prints a line an epoch if positive.

    Attributes
    ----------
    encoder_ : AlignmentEncoder or ViewEncoder
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
        Mean over the modalities of :func:`skmars.metrics.uniformity_score`.
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
    SequenceRetrievalAugmenter : Finds look-alikes by item factors and other features.
    sklearn.cross_decomposition.CCA : The linear classic for two views.

    Notes
    -----
    An item that lacks a modality is left out of `L_Stein`; where the network would look at that
    modality, the mean of those that the item has stands in for it.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "id_dim": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "lam": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "entropy": [StrOptions({"maximize", "paper"}), None],
        "eta": [Interval(Real, 0, None, closed="neither")],
        "residual": ["boolean"],
        "causal": ["boolean"],
        "max_length": [Interval(Integral, 1, None, closed="left")],
        "modalities": ["array-like", None],
        "n_factors": [Interval(Integral, 0, None, closed="left")],
        "cv": [Interval(Integral, 2, 100, closed="both")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "device": [str],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int = 256,
        *,
        id_dim: int = 128,
        n_heads: int = 2,
        lam: float = 0.1,
        beta: float = 0.1,
        entropy: str | None = "maximize",
        eta: float = 0.1,
        residual: bool = True,
        causal: bool = True,
        max_length: int = 200,
        modalities: Any = None,
        n_factors: int = 64,
        cv: int = 5,
        max_iter: int = 10,
        batch_size: int | str = "auto",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        dropout: float = 0.3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.id_dim = id_dim
        self.n_heads = n_heads
        self.lam = lam
        self.beta = beta
        self.entropy = entropy
        self.eta = eta
        self.residual = residual
        self.causal = causal
        self.max_length = max_length
        self.modalities = modalities
        self.n_factors = n_factors
        self.cv = cv
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: ArrayLike | None = None) -> SteinAligner:
        """Learn the aligned space.

        Parameters
        ----------
        X : Impressions, table or array-like of shape (n_samples, n_features)
            Impressions whose catalogue has modality features, a pandas, polars or pyarrow
            table of such (see `Impressions.from_frame`), or a plain array of views.
        y : array-like of shape (n_samples,), default=None
            Clicks: two classes, the larger one is a click. Needed for impressions, ignored
            for arrays.

        Returns
        -------
        self : SteinAligner

        Raises
        ------
        ValueError
            If a parameter is out of its range, the catalogue has no features of a modality,
            or features hold NaN or infinity.
        FloatingPointError
            If the loss or what was learned is not finite.
        """
        self._validate_params()
        return self._fit(X, y, resume=self._resumes(), max_iter=self.max_iter, callbacks=True)

    @all_or_nothing
    def partial_fit(self, X: Any, y: ArrayLike | None = None) -> SteinAligner:
        """Go through these rows once, starting from the present state.

        Items that are new get an embedding of their own. The scaling of features and columns
        is that of the first call; the optimiser starts anew in every call.

        Parameters
        ----------
        X, y
            As in `fit`; `y` may hold one class only if it is 0 or 1.

        Returns
        -------
        self : SteinAligner
        """
        self._validate_params()
        resume = hasattr(self, "encoder_")
        return self._fit(X, y, resume=resume, max_iter=1, callbacks=False)

    def fit_transform(self, X: Any, y: ArrayLike | None = None) -> Any:
        """Fit, and give each row what was learnt without the users of its fold (see `cv`).

        Parameters
        ----------
        X, y
            As in `fit`.

        Returns
        -------
        Impressions or ndarray of shape (n_samples, n_components)
            As of `transform`, but item factors and all that is made of them, embeddings of items
            and users, do not know what the users of the row's fold did. Arrays are transformed.
        """
        from skmars.alignment._encoder import OutOfFoldEncoder

        known = self.encoder_ if self._resumes() else None
        encoder = self.fit(X, y).encoder_
        impressions = as_impressions(X)
        if impressions is None:
            return self.transform(X)
        attached = self._attach(impressions)
        folds = encoder.out_of_fold(impressions, self.cv)
        seen = [each.embed_catalog(impressions.catalog) for each in folds]
        return (
            attached.with_catalog(attached.catalog.with_folds(seen))
            .with_user_encoder(OutOfFoldEncoder(encoder, folds) if folds else encoder)
            .with_fold(_folds(impressions, self.cv, known))
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
            The impressions with ``catalog.embedding`` and ``catalog.features["factors"]``
            (the same catalogue object in every call), and `user_embedding`, which is computed
            when asked for and just for the rows that are left by then. Of an array, the mean of
            the views' embeddings.
        """
        check_is_fitted(self)
        impressions = as_impressions(X)
        self._check_same_input(impressions is not None)
        if impressions is None:
            X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
            check_range(X, getattr(self, "feature_names_in_", None))
            return self._as_output(self.encoder_(X), X)
        check_columns(self, impressions, reset=False)
        out = self._attach(impressions.with_fold(None))
        factors = self.encoder_.factors
        return out if factors is None else mark_own(out, factors.users.outlasts(impressions))

    def _attach(self, X: Impressions) -> Impressions:
        return X.with_catalog(self.encoder_.embed_catalog(X.catalog)).with_user_encoder(
            self.encoder_
        )

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Return the names of the output columns.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Checked against the names of fit.

        Returns
        -------
        ndarray of str
            ``steinaligner0`` and so on; for impressions the columns of their table.
        """
        check_is_fitted(self)
        if self._columns_out is not None:
            return np.array(self._columns_out, dtype=object)
        _check_feature_names_in(self, input_features)
        width = self.encoder_.network.n_components
        return np.array([f"steinaligner{i}" for i in range(width)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # --- fitting --------------------------------------------------------------------------

    def _resumes(self) -> bool:
        return self.warm_start and hasattr(self, "encoder_")

    def _fit(
        self, X: Any, y: ArrayLike | None, *, resume: bool, max_iter: int, callbacks: bool
    ) -> SteinAligner:
        import torch

        from skmars.alignment._clicks import click_target
        from skmars.utils._torch import DrawFrom

        first = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        # A later call must not repeat the draws of the earlier ones, but hold out the same rows.
        seed = (first + (self.n_iter_ if resume else 0)) % np.iinfo(np.int32).max
        impressions = as_impressions(X)
        if resume:
            self._check_same_input(impressions is not None)
        with DrawFrom(torch.Generator().manual_seed(seed)):
            if impressions is None:
                X = validate_data(
                    self, X, dtype=[np.float64, np.float32], ensure_min_samples=2, reset=not resume
                )
                check_range(X, getattr(self, "feature_names_in_", None))
                objective = self._view_objective(X, resume=resume, seeds=(first, seed))
                columns_out = None
            else:
                X = impressions
                y = click_target(y, len(X), type(self).__name__, one_class=not callbacks)
                objective = self._click_objective(X, y, resume=resume, seeds=(first, seed))
                check_columns(self, X, reset=not resume)
                columns_out = X.with_user_encoder(objective.encoder()).columns
        return self._train(
            objective, X, y, columns_out, resume=resume, max_iter=max_iter, callbacks=callbacks
        )

    def _train(
        self,
        objective: Any,
        X: Any,
        y: Any,
        columns_out: list[str] | None,
        *,
        resume: bool,
        max_iter: int,
        callbacks: bool,
    ) -> SteinAligner:
        import torch

        from skmars.alignment._stein import geometry
        from skmars.utils._training import EpochCallbacks, check_finite, train

        reporter = None
        if callbacks:
            context = self._init_callback_context(max_subtasks=max_iter)
            reporter = EpochCallbacks(
                self,
                context,
                X,
                y,
                lambda: {"encoder_": objective.encoder(), "_columns_out": columns_out},
            )
        optimizer = torch.optim.AdamW(
            objective.network.parameters(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            fused=True,
        )
        result = train(
            objective.network,
            objective.batches,
            objective.loss,
            optimizer,
            max_iter=max_iter,
            evaluate=objective.evaluate if len(objective.valid) else None,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            callbacks=reporter,
            name=type(self).__name__,
            verbose=self.verbose,
        )
        embeddings, present = objective.measured()
        with torch.no_grad():
            loss = objective.loss(next(iter(objective.batches(result.n_iter))))
        check_finite(
            [loss, *embeddings], optimizer, epoch=result.n_iter - 1, name=type(self).__name__
        )
        alignment, uniformity, effective_rank = geometry(embeddings, present)
        self.encoder_ = objective.encoder()
        losses: list[float] = self.loss_curve_ if resume else []
        scores: list[float] = (self.validation_scores_ or []) if resume else []
        self.loss_curve_: list[float] = [*losses, *result.loss_curve]
        self.validation_scores_: list[float] | None = [*scores, *result.validation_curve] or None
        self.n_iter_ = len(self.loss_curve_)
        self.alignment_, self.uniformity_ = alignment, uniformity
        self.effective_rank_ = effective_rank
        self._columns_out = columns_out
        if reporter is not None:
            reporter.finish()
        return self

    def _click_objective(
        self, X: Impressions, y: NDArray[np.float32], *, resume: bool, seeds: tuple[int, int]
    ) -> Any:
        from skmars.alignment import _clicks as clicks
        from skmars.alignment._inputs import modality_names
        from skmars.alignment._item_factors import ItemFactors
        from skmars.utils._torch import resolve_device

        device = resolve_device(self.device)
        # Where the trained encoder will compute: it may be loaded on a machine without a GPU.
        home = "cpu" if self.device == "cpu" else "auto"
        if resume:
            encoder = clicks.continued_encoder(self.encoder_, X, home)
        else:
            modalities = modality_names(self.modalities, X.catalog)
            encoder = clicks.new_encoder(
                X,
                modalities,
                home,
                ItemFactors.of(X, self.n_factors, seeds[1], modalities),
                n_components=self.n_components,
                id_dim=self.id_dim,
                n_heads=self.n_heads,
                residual=self.residual,
                causal=self.causal,
                max_length=self.max_length,
                dropout=self.dropout,
            )
        return clicks.ClickObjective(
            encoder,
            X,
            y,
            folds=encoder.out_of_fold(X, self.cv),
            fold=_folds(X, self.cv, self.encoder_ if resume else None),
            beta=self.beta,
            device=device,
            **self._sampling(X, y, seeds),
        )

    def _view_objective(self, X: NDArray[Any], *, resume: bool, seeds: tuple[int, int]) -> Any:
        from copy import deepcopy

        from skmars.alignment import _views as views
        from skmars.utils._torch import resolve_device

        device = resolve_device(self.device)
        if resume:
            encoder = deepcopy(self.encoder_)
        else:
            sizes = views.block_sizes(self.modalities, X.shape[1])
            encoder = views.ViewEncoder.new(X, sizes, self.n_components)
        return views.ViewObjective(encoder, X, device=device, **self._sampling(X, None, seeds))

    def _sampling(self, X: Any, y: NDArray[Any] | None, seeds: tuple[int, int]) -> dict[str, Any]:
        """Return what both objectives need to know: which rows, how many at a time, the loss.

        The first of the seeds is for the rows to set aside, the second for all else.
        """
        from skmars.alignment._stein import SteinObjective

        train = np.arange(len(X))
        valid = train[:0]
        if self.early_stopping:
            rng, share = np.random.RandomState(seeds[0]), self.validation_fraction
            if y is None:
                train, valid = train_test_split(train, test_size=share, random_state=rng)
            else:
                parts = hold_out(X, y, "auto", share, rng, type(self).__name__)
                train, valid = parts or (train, valid)
        batch_size = self.batch_size
        if batch_size == "auto":
            batch_size = int(np.clip(len(train) // AUTO_STEPS, AUTO_SMALLEST, AUTO_LARGEST))
        return {
            "train": train,
            "valid": valid,
            "batch_size": batch_size,
            "stein_objective": SteinObjective(self.lam, self.entropy, self.eta),  # type: ignore
            "rng": np.random.RandomState(seeds[1]),
        }

    def _check_same_input(self, impressions: bool) -> None:
        if impressions != (self._columns_out is not None):
            kinds = ["a plain array", "impressions"]
            raise TypeError(
                f"SteinAligner was fitted on {kinds[not impressions]}, but X is "
                f"{kinds[impressions]}. Fit it on what it shall transform."
            )


def _folds(X: Impressions, n_folds: int, known: AlignmentEncoder | None) -> NDArray[np.int8]:
    """Return the fold of each row's user.

    Where an aligner goes on, its item factors are those of an earlier fit: of users of whom it
    knows nothing later than these rows, it may keep what it knows of everybody.
    """
    fold = user_folds(X.users, n_folds)[X.user]
    if known is None or known.factors is None:
        return fold
    own = np.zeros(len(X.users), dtype=bool)
    own[X.user[known.factors.users.outlasts(X)]] = True
    return np.where(own[X.user], fold, np.int8(EVERYBODY))
