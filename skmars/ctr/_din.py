"""Deep Interest Network as a scikit-learn classifier."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skmars.ctr._fusion import ENOUGH
from skmars.ctr._labelled_rows import (
    Data,
    LabelledRows,
    about_validation_rows,
    encode_target,
    has_borrowed,
    holds_out,
    split,
    two_classes,
    validation_rows,
    warn_of_own_answers,
    weighed,
    without_borrowed,
)
from skmars.ctr._parameters import CONSTRAINTS, check_parameters
from skmars.ctr._row_encoder import RowEncoder, check_numbers, numeric_columns
from skmars.data import Impressions
from skmars.data._checks import as_impressions, check_columns, check_range
from skmars.utils._base import SkmarsMixin, all_or_nothing, with_callbacks

if TYPE_CHECKING:
    from skmars.baselines import AuxiliaryObjective
    from skmars.ctr._network import DINNetwork
    from skmars.ctr._optimizer import OptimizerState


class DINClassifier(SkmarsMixin, ClassifierMixin, BaseEstimator):
    r"""Deep Interest Network: click probability of a target item, given a user's history.

    The history is summed up by attention to the target item (Eq. 3 of [1]_),

    .. math:: v_U(A) = \sum_{j=1}^{H} a(e_j, v_A)\, e_j,

    where the activation unit `a` is a perceptron on
    :math:`[v_A, e_j, v_A - e_j, v_A \odot e_j]`. A second perceptron maps the interest
    vector, the target, their product, the interest in borrowed items and the context columns
    to a logit.

    Histories are ragged and never padded; the prediction of a row depends neither on the other
    rows nor on the order of its history. An empty history is an interest of zero. Items that
    `fit` did not see share one embedding, the mean of those it saw.

    A plain numeric array `X` has no items: its columns are dense context and the model is the
    second perceptron alone.

    Parameters
    ----------
    embedding_dim : int, default=10
        Width of item, category and attribute embeddings, and of projected content.
    attention_units, hidden_units : sequence of int, default=(80, 40), (200, 80)
        Hidden layers of the activation unit, and of the second perceptron.
    activation : {"dice", "prelu", "relu", "sigmoid"}, default="dice"
        Activation of all hidden layers. Dice keeps running batch statistics (momentum 0.1,
        epsilon 1e-8) over the real history positions.
    attention_normalization : {None, "softmax", "sqrt"}, default="sqrt"
        What becomes of the attention scores of a history: None leaves them as the DIN paper does,
        "softmax" lets them sum to one, "sqrt" divides them by the square root of the history's
        length, so that long and short histories give interests of one scale.
    borrowed : {"auto", "separate", "marked", "joint"}, default="auto"
        What to do with ``X.borrowed``. "separate" pools them apart with an activation unit of their
        own, so that they add evidence and cannot drown a short own history; "marked" pools all in
        one with an embedding added that marks the borrowed; "joint" makes no distinction, as
        MARS [2]_. "auto" trains twice, as "separate" and without borrowed items, and keeps the
        network that predicts the held-out rows better (AUC); it is "separate" where fewer than 500
        rows are held out, which can't tell. If no row had borrowed items in `fit`, they are ignored
        in `predict` unless "joint".
    item_features : "auto", None or list of str, default="auto"
        Matrices of the catalogue that are projected and join the item embedding: names of its
        ``features`` (to which the aligner adds "factors"), and "aligned" for its
        ``embedding``. "auto" takes "factors" if it is there, else all features; the embedding
        only where there are none, as an aligner that was fitted to the same rows knows their
        labels. None for ids alone. Each item's features are scaled to unit length; features made
        from content (all but "factors" and "aligned") first lose their mean over the items of
        `fit`, since what all pictures have in common tells none of them apart. What
        ``catalog.missing`` masks counts as zeros.
    item_attributes, user_attributes : "auto", None or list of str, default="auto"
        Attributes of the catalogue that join the item embedding, in target and history alike, and
        attributes of users (``X.user_attributes``) that join the context. A category has an
        embedding, a list of categories the mean of theirs, a number is scaled to unit variance
        over the distinct items (or users) of `fit`, and times a learnt vector. Categories that
        `fit` did not see count as missing ones. "auto" takes all, None takes none.
    linear_context : "auto", None or list of str, default="auto"
        Numeric context columns that pass the network by. Their weighted sum joins its logit, with
        weights (and one of the logit, and a bias) that are learnt last, on the rows held out for
        early stopping, where there are any: late fusion, as in stacking [3]_. They count up to
        three standard deviations, and join only where that predicts held-out rows better which
        were not used for the weights: none of them, the first one, or all. Fewer than 500 held-out
        rows can't tell: all join, weighed among each other by the training rows, and these rows
        scale their sum. "auto" takes the logit of `ClickRateClassifier`, and the look-alike
        features (columns of `SequenceRetrievalAugmenter`): in training, the network would rely on
        them and learn less of the items. Not for arrays.
    activity_feature : bool, default=True
        Whether the second perceptron also sees the logarithm of the length of the own history.
    max_length : int, default=200
        How many items of a history are used: the last ones, own items before borrowed ones.
    embedding_l2 : float, default=0.0001
        Strength of the mini-batch aware L2 penalty on embeddings (Eq. 6 of [1]_): a step shrinks
        the embeddings that occur in its batch, rare ones more, and leaves all others alone.
    learning_rate : float, default=0.001
        Of AdamW.
    batch_size : int or "auto", default="auto"
        Rows a step, at most: all batches of an epoch are of one size. "auto" is 512, and less
        (down to 64) on fewer than 25600 rows, so that an epoch has about 50 steps.
    max_iter : int, default=100
        Largest number of epochs.
    early_stopping : bool or "auto", default="auto"
        Whether to stop when the AUC of held-out rows no longer rises, and to keep the weights
        of the best epoch. "auto": with ``X_val``, for impressions, and for arrays of at least
        1000 rows.
    holdout : {"auto", "last", "users"}, default="auto"
        Which impressions are held out, without ``X_val``: the last moments of users, as what is
        predicted comes after what is trained on; or all rows of some users. "auto" is "last",
        and "users" where too few users have a second moment.
    validation_fraction : float or "auto", default="auto"
        Share of the rows that is held out, without ``X_val``. "auto" is a tenth; of impressions
        at least 100 rows, but never more than 30 % of the rows, and at most 5000 rows.
    n_iter_no_change : int, default=3
        Epochs without improvement by `tol` after which early stopping stops. An epoch of less
        than 50 steps counts for less: at least 50 times as many steps go by before that.
    tol : float, default=0.0001
        Least improvement of the AUC that counts.
    auxiliary : CL4SRec, CoSeRec, BASRec, other `AuxiliaryObjective` or None, default=None
        A further objective of the training, whose loss is added to that of the clicks; its
        parameters can be searched as ``auxiliary__weight`` and so on. `BASRec` doubles the
        number of epochs. Prediction knows nothing of it. Not for arrays.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with `sample_weight`.
    warm_start : bool, default=False
        Whether `fit` goes on from the last solution. New items join the vocabulary; scales and
        categories of context columns and attributes stay.
    random_state : int, RandomState instance or None, default=None
        Initial weights, order of the rows, held-out rows. Pass an int for the same result on
        every call; a fit that goes on from the last one draws a new order.
    device : {"auto", "cpu", "cuda", "cuda:0", ...}, default="auto"
        Where to compute. A fitted model is always stored on the CPU.
    verbose : int, default=0
        Print a line an epoch if positive.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    item_ids_ : ndarray of shape (n_items,)
        Ids of the items with an embedding of their own. Not for arrays.
    n_iter_ : int
        Number of epochs.
    uses_borrowed_ : bool
        Whether borrowed items change predictions. With ``borrowed="auto"``, False where `fit` had
        none, or held-out rows were predicted better without. Not for arrays.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        AUC of the held-out rows after each epoch. Where columns of `linear_context` join, the rows
        of each half are scored by weights that were learnt on the other half.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)

    Notes
    -----
    A `sample_weight` counts a row that often: in the loss, in the batch statistics and in the
    scale of numeric columns. A weight of zero leaves it out. Where an epoch is one batch (no
    more than `batch_size` rows), integer weights and repeated rows therefore give the same
    model; with more batches they do in expectation.

    The logit is calibrated on the held-out rows: its offset and scale are fitted to them (Platt
    scaling). Training rows must come from `fit_transform` of the earlier steps, as they do in a
    `Pipeline`; features that `transform` makes for them may know their clicks, and `fit` warns.

    The order of a history has no influence, and repeating it merely scales the interest (see the
    user guide), so that augmentations which do no more do nothing here.

    References
    ----------
    .. [1] Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018,
       arXiv:1706.06978.
    .. [2] "Modality-Aligned Retrieval for Sequence Augmented CTR Prediction",
       arXiv:2509.01184.
    .. [3] Wolpert, "Stacked Generalization", Neural Networks 5, 1992.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars import DINClassifier
    >>> X = pd.DataFrame({
    ...     "user_id": ["ann", "bob", "ann", "bob"],
    ...     "item_id": ["tea", "tea", "jam", "rum"],
    ...     "history": [["jam"], ["rum", "gin"], ["tea", "jam"], []],
    ... })
    >>> din = DINClassifier(max_iter=5, early_stopping=False, random_state=0)
    >>> din = din.fit(X, [1, 0, 1, 0])
    >>> din.predict_proba(X).shape
    (4, 2)
    >>> din.item_ids_.tolist()
    ['gin', 'jam', 'rum', 'tea']
    """

    _parameter_constraints = CONSTRAINTS
    classes_: NDArray[Any]
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    _encoder: RowEncoder
    _network: DINNetwork
    _optimizer_state: OptimizerState | None

    def __init__(
        self,
        *,
        embedding_dim: int = 10,
        attention_units: Sequence[int] = (80, 40),
        hidden_units: Sequence[int] = (200, 80),
        activation: str = "dice",
        attention_normalization: str | None = "sqrt",
        borrowed: str = "auto",
        item_features: Sequence[str] | str | None = "auto",
        item_attributes: Sequence[str] | str | None = "auto",
        user_attributes: Sequence[str] | str | None = "auto",
        linear_context: Sequence[str] | str | None = "auto",
        activity_feature: bool = True,
        max_length: int = 200,
        embedding_l2: float = 1e-4,
        learning_rate: float = 1e-3,
        batch_size: int | str = "auto",
        max_iter: int = 100,
        early_stopping: bool | str = "auto",
        holdout: str = "auto",
        validation_fraction: float | str = "auto",
        n_iter_no_change: int = 3,
        tol: float = 1e-4,
        auxiliary: AuxiliaryObjective | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        verbose: int = 0,
    ) -> None:
        self.embedding_dim = embedding_dim
        self.attention_units = attention_units
        self.hidden_units = hidden_units
        self.activation = activation
        self.attention_normalization = attention_normalization
        self.borrowed = borrowed
        self.item_features = item_features
        self.item_attributes = item_attributes
        self.user_attributes = user_attributes
        self.linear_context = linear_context
        self.activity_feature = activity_feature
        self.max_length = max_length
        self.embedding_l2 = embedding_l2
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.holdout = holdout
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.auxiliary = auxiliary
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    @all_or_nothing
    @with_callbacks
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> DINClassifier:
        """Train the network.

        Parameters
        ----------
        X : Impressions, table, or array of shape (n_rows, n_features)
            A pandas, polars or pyarrow table has the columns `user_id`, `item_id`, `history`
            and any context columns.
        y : array-like of shape (n_rows,)
            Two classes.
        sample_weight : array-like of shape (n_rows,), default=None
        X_val, y_val : like X and y, default=None
            Rows for early stopping and calibration, instead of held-out ones. By hand, pass them
            through `transform` of the earlier steps; in a `Pipeline`, metadata routing and
            ``transform_input=["X_val"]`` do that (see the user guide).

        Returns
        -------
        DINClassifier
            Itself.

        Raises
        ------
        ValueError
            If `y` has not two classes, a column is missing or holds NaN or a number that is too
            large for a network, or a parameter is out of range.
        FloatingPointError
            If the loss or what was learned becomes infinite or NaN.
        """
        resume = self.warm_start and hasattr(self, "_network")
        return self._train(X, y, sample_weight, X_val, y_val, resume=resume, max_iter=self.max_iter)

    @all_or_nothing
    @with_callbacks
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> DINClassifier:
        """Train for one epoch on further rows, from where the last call stopped.

        The optimiser goes on, too: its moments are part of a fitted classifier, and of its pickle.
        New items join the vocabulary; scales and categories of context columns and attributes are
        those of the first call. So is the calibration of the logit on held-out rows, if `fit` had
        some; it is then the calibrated logit that is trained.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (2,), default=None
            The two classes. Needed in the first call if `y` has not both.

        Returns
        -------
        DINClassifier
            Itself.
        """
        resume, known = hasattr(self, "_network"), two_classes(classes)
        return self._train(
            X, y, sample_weight, resume=resume, max_iter=1, classes=known, incremental=True
        )

    def _train(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        *,
        resume: bool,
        max_iter: int,
        classes: NDArray[Any] | None = None,
        incremental: bool = False,
    ) -> DINClassifier:
        from skmars.ctr._training_run import EarlierFit, TrainingRun
        from skmars.utils._torch import resolve_device
        from skmars.utils._training import EpochCallbacks

        self._validate_params()
        parameters = self.get_params(deep=False)
        check_parameters(parameters)
        device = resolve_device(self.device)
        random_state = check_random_state(self.random_state)
        name = type(self).__name__

        rows = self._check_rows(X, has_items=self._has_items if resume else None)
        if isinstance(rows, Impressions):
            # Messages name rows by their number here, before some of them are held out.
            numeric = self._encoder.numeric if resume else numeric_columns(rows)
            check_numbers(rows, numeric)
        warn_of_own_answers(rows, name)
        y01, classes = encode_target(y, self.classes_ if resume else classes, len(rows), name)
        data = weighed(LabelledRows(rows, y01), sample_weight, self.class_weight, classes)
        del y01  # which costs memory, if there are many rows
        held_out: Data | None = None
        if X_val is not None or y_val is not None:
            if X_val is None or y_val is None:
                raise ValueError("X_val and y_val go together, but only one of them was passed.")
            if self.early_stopping is False:
                raise ValueError("X_val is for early stopping, but early_stopping=False.")
            with about_validation_rows():
                X_val = self._check_rows(X_val, has_items=isinstance(rows, Impressions))
                if isinstance(X_val, Impressions):
                    check_columns(self, X_val, reset=False)
                    check_numbers(X_val, numeric)
            held_out = validation_rows(X_val, y_val, self.class_weight, classes)
        elif not incremental and holds_out(self.early_stopping, rows):
            held = self.holdout, self.validation_fraction
            data, held_out = split(data, *held, random_state, name)
        earlier = None
        if resume:
            n_epochs, moments = len(self.loss_curve_), getattr(self, "_optimizer_state", None)
            calibrated = self.validation_scores_ is not None
            earlier = EarlierFit(self._encoder, self._network, moments, n_epochs, calibrated)
        second: tuple[Data, Data] | None = None
        if self.borrowed == "auto":
            parameters["borrowed"] = "separate"
            choose = not resume and has_borrowed(data.X)
            if choose and held_out is not None and len(held_out) >= ENOUGH:
                second = without_borrowed(data), without_borrowed(held_out)
        # Each training draws what it would draw if it were the only one.
        state = copy.deepcopy(random_state)
        new_run = partial(
            TrainingRun,
            parameters,
            max_iter=max_iter,
            device=device,
            earlier=earlier,
            incremental=incremental,
        )

        def fitted(*, done: bool = False) -> dict[str, Any]:
            encoder, network = run.trained(done=done)
            return {"classes_": classes, "_encoder": encoder, "_network": network}

        run = new_run(data, held_out, random_state=random_state, name=name)
        n_trainings = 1 if second is None else 2
        context = self._init_callback_context(max_subtasks=n_trainings * run.n_epochs)
        callbacks = EpochCallbacks(self, context, X, y, fitted)
        result = run.train(callbacks)
        if second is not None and result.stopped_by in ("max_iter", "patience"):
            best, found = run, result
            run = new_run(*second, random_state=state, name=f"{name} (nothing borrowed)")
            result = run.train(callbacks)
            if max(found.validation_curve) >= max(result.validation_curve, default=0.0):
                run, result = best, found
        losses = self.loss_curve_ if resume else []
        scores = (self.validation_scores_ or []) if resume else []
        self._optimizer_state = run.optimizer.state()
        self.__dict__.update(fitted(done=True))
        self.loss_curve_ = losses + result.loss_curve
        self.validation_scores_ = (scores + result.validation_curve) or None
        self.n_iter_ = len(self.loss_curve_)
        callbacks.finish()
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the logit of the second class.

        Parameters
        ----------
        X : Impressions, table, or array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,), float64

        Raises
        ------
        ValueError
            If a column is missing, is of another kind than in `fit`, or holds NaN or a number
            that is too large for a network.
        TypeError
            If item ids are strings and were integers in `fit`, or the other way round.
        """
        if not self.__sklearn_is_fitted__():  # else the check takes longer than many a step
            check_is_fitted(self)
        from skmars.ctr._network import known_device, logits

        device = known_device(self.device)
        rows = self._encoder.encode(self._check_rows(X, has_items=self._has_items))
        network = self._network
        if device.type != "cpu":
            network = copy.deepcopy(network).to(device)
        logit = logits(network, rows)
        if not np.isfinite(logit).all():
            row = int(np.argmin(np.isfinite(logit)))
            raise FloatingPointError(
                f"{type(self).__name__}: the prediction of row {row} is infinite or NaN. Most "
                "likely the learning rate of the fit was too large: fit again with a lower "
                "learning_rate."
            )
        return logit

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : Impressions, table, or array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, 2), float64
        """
        positive = expit(self.decision_function(X))
        return np.column_stack([1 - positive, positive])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class.

        Parameters
        ----------
        X : Impressions, table, or array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        positive = self.decision_function(X) > 0
        return self.classes_[positive.astype(np.int64)]

    @property
    def uses_borrowed_(self) -> bool:
        encoder = vars(self).get("_encoder")
        if encoder is None or encoder.items is None:
            raise AttributeError(f"{type(self).__name__} was fitted to no items.")
        return encoder.has_borrowed or encoder.borrowed == "joint"

    @property
    def item_ids_(self) -> NDArray[Any]:
        items = self._encoder.items if "_encoder" in vars(self) else None
        if items is None:
            raise AttributeError(f"{type(self).__name__} was fitted to no items.")
        return items.ids

    # --- input ------------------------------------------------------------------------------

    @property
    def _has_items(self) -> bool:
        return self._encoder.items is not None

    def _check_rows(self, X: Any, *, has_items: bool | None) -> Impressions | NDArray[Any]:
        """Return `X` as impressions or as a numeric array.

        `has_items` says which of both it has to be; None leaves it open, and remembers columns.
        """
        impressions = X if isinstance(X, Impressions) else as_impressions(X)
        if has_items is not None and has_items != (impressions is not None):
            kinds = ["impressions", "a plain numeric array"]
            seen, got = kinds if has_items else kinds[::-1]
            raise TypeError(
                f"{type(self).__name__} was fitted on {seen}, but X is {got}. Pass X of the "
                "kind that it was fitted on, or fit it again."
            )
        if impressions is None:
            dtypes = [np.float64, np.float32]
            X = validate_data(self, X, dtype=dtypes, reset=has_items is None)
            check_range(X, getattr(self, "feature_names_in_", None))
            return X
        if has_items is None:
            check_columns(self, impressions, reset=True)
        return impressions

    # --- scikit-learn -----------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
