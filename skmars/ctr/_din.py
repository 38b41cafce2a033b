"""Deep Interest Network as a scikit-learn classifier."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from skmars.baselines import AuxiliaryLoss, AuxiliaryObjective
from skmars.baselines._auxiliary import auxiliary_loss
from skmars.ctr._inputs import Inputs, check_numbers
from skmars.ctr._samples import Sample, encode_target, holds_out, rows_a_step, two_classes
from skmars.data import Impressions
from skmars.data._checks import as_impressions, check_columns, check_range
from skmars.data._folds import OWN
from skmars.utils._base import SkmarsMixin, all_or_nothing, with_callbacks

if TYPE_CHECKING:
    from skmars.ctr._network import DINNetwork


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
        Width of item, category and projected content embeddings.
    attention_units : sequence of int, default=(80, 40)
        Hidden layers of the activation unit.
    hidden_units : sequence of int, default=(200, 80)
        Hidden layers of the head.
    activation : {"dice", "prelu", "relu", "sigmoid"}, default="dice"
        Activation of all hidden layers. Dice keeps running batch statistics (momentum 0.1,
        epsilon 1e-8) over the real history positions.
    attention_normalization : {None, "softmax", "sqrt"}, default="sqrt"
        What becomes of the attention scores of a history: None leaves them as the paper does,
        "softmax" lets them sum to one, "sqrt" divides them by the square root of the history's
        length, so that long and short histories give interests of one scale.
    borrowed : {"separate", "marked", "joint"}, default="separate"
        What to do with ``X.borrowed``: pool them apart with an activation unit of their own,
        so that they add evidence and cannot drown a short own history; pool all in one with an
        embedding added that marks the borrowed; or make no distinction, as MARS [2]_.
        If no row had borrowed items in `fit`, they are ignored in `predict` unless "joint".
    item_features : "auto", None or list of str, default="auto"
        Matrices of the catalogue that are projected and join the item embedding: names of its
        ``features`` (to which the aligner adds "factors"), and "aligned" for its
        ``embedding``. "auto" takes "factors" if it is there, else all features; the embedding
        only where there are none, as an aligner that was fitted to the same rows knows their
        labels. None for ids alone.
    linear_context : "auto", None or list of str, default="auto"
        Numeric context columns that pass the network by. Their weighted sum joins its logit, with
        weights (and one of the logit, and a bias) that are learnt last, on the rows held out for
        early stopping, where there are any: late fusion, as in stacking [3]_. They count up to
        three standard deviations, and join only where that predicts held-out rows better which
        were not used for the weights. "auto" takes the look-alike features (columns of
        `SequenceRetrievalAugmenter`): in training, the network would rely on them and learn less
        of the items. Not for arrays.
    activity_feature : bool, default=True
        Whether the head also sees the logarithm of the length of the user's own history.
    max_length : int, default=200
        How many items of a history are used: the last ones, own items before borrowed ones.
    embedding_l2 : float, default=0.0001
        Strength of the mini-batch aware L2 penalty on embeddings (Eq. 6 of [1]_).
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
        Which impressions are held out, without ``X_val``. "last": the last moments of users, as
        what is predicted comes after what is trained on. "users": all rows of some users. "auto"
        is "last", and "users" where too few users have a second moment.
    validation_fraction : float or "auto", default="auto"
        Share of the rows that is held out, without ``X_val``. "auto" is a tenth; of impressions
        at least 100 rows, where that is no more than 30 %, and at most 5000.
    n_iter_no_change : int, default=3
        Epochs without improvement by `tol` after which early stopping stops. An epoch of less
        than 50 steps, at which ``batch_size="auto"`` aims, counts for less: at least 50 times
        as many steps go by before training stops.
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
        categories of context columns stay.
    random_state : int, RandomState instance or None, default=None
        Initial weights, order of the rows, held-out rows. Pass an int for the same result on
        every call; a fit that goes on from the last one draws a new order.
    device : {"auto", "cpu", "cuda"}, default="auto"
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

    The order of a history has no influence, so augmentations that reorder it do nothing here.
    Repeating a whole history does nothing under "softmax", multiplies the interest by the
    number of copies under None, and by its square root under "sqrt".

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

    _parameter_constraints = {  # noqa: RUF012
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "attention_units": ["array-like"],
        "hidden_units": ["array-like"],
        "activation": [StrOptions({"dice", "prelu", "relu", "sigmoid"})],
        "attention_normalization": [StrOptions({"softmax", "sqrt"}), None],
        "borrowed": [StrOptions({"separate", "marked", "joint"})],
        "item_features": [StrOptions({"auto"}), list, tuple, None],
        "linear_context": [StrOptions({"auto"}), list, tuple, None],
        "activity_feature": ["boolean"],
        "max_length": [Interval(Integral, 1, None, closed="left")],
        "embedding_l2": [Interval(Real, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "holdout": [StrOptions({"auto", "last", "users"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"})],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "auxiliary": [HasMethods("objective"), None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "device": [str],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        embedding_dim: int = 10,
        attention_units: Any = (80, 40),
        hidden_units: Any = (200, 80),
        activation: str = "dice",
        attention_normalization: str | None = "sqrt",
        borrowed: str = "separate",
        item_features: Any = "auto",
        linear_context: Any = "auto",
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
        class_weight: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
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
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
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
        return self._fit(X, y, sample_weight, X_val, y_val, resume=resume, max_iter=self.max_iter)

    @all_or_nothing
    @with_callbacks
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> DINClassifier:
        """Train for one epoch on further rows, from where the last call stopped.

        The optimiser goes on, too: its moments are part of a fitted classifier, and of its pickle.
        New items join the vocabulary; scales and categories of context columns are those of the
        first call.

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
        return self._fit(
            X,
            y,
            sample_weight,
            resume=hasattr(self, "_network"),
            max_iter=1,
            known_classes=two_classes(classes),
            incremental=True,
        )

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_val: Any = None,
        y_val: Any = None,
        *,
        resume: bool,
        max_iter: int,
        known_classes: NDArray[Any] | None = None,
        incremental: bool = False,
    ) -> DINClassifier:
        from skmars.ctr import _learning as learning
        from skmars.utils._torch import resolve_device, to_cpu
        from skmars.utils._training import EpochCallbacks

        self._validate_params()
        device = resolve_device(self.device)
        random_state = check_random_state(self.random_state)
        name = type(self).__name__

        data = self._check_rows(X, has_items=self._inputs.has_items if resume else None)
        self._warn_of_own_answers(data)
        y01, classes = encode_target(y, self.classes_ if resume else known_classes, len(data), name)
        sample = Sample.weighed(data, y01, sample_weight, self.class_weight, classes)
        held_out = None
        if X_val is not None or y_val is not None:
            if X_val is None or y_val is None:
                raise ValueError("X_val and y_val go together, but only one of them was passed.")
            if self.early_stopping is False:
                raise ValueError("X_val is for early stopping, but early_stopping=False.")
            try:
                X_val = self._check_rows(X_val, has_items=isinstance(data, Impressions))
            except ValueError as error:
                error.add_note(
                    "This is about X_val, which must have gone through the same steps as X. A "
                    "Pipeline sees to that with transform_input=['X_val']: see the user guide."
                )
                raise
            held_out = Sample.validation(X_val, y_val, self.class_weight, classes)
        elif not incremental and holds_out(self.early_stopping, data):
            sample, held_out = sample.split(
                self.holdout, self.validation_fraction, random_state, name
            )

        if resume:
            # A later call must not repeat the draws of the earlier ones.
            seed = random_state.randint(np.iinfo(np.int32).max) + len(self.loss_curve_)
            random_state = np.random.RandomState(seed)
            # Copies: an interrupted or failing fit must not leave a half-changed model.
            inputs, network = copy.deepcopy((self._inputs, self._network))
            if inputs.has_items:
                network.add_items(inputs.update(sample.X))
        else:
            inputs = self._learn_inputs(sample)
            network = self._build(inputs, random_state)
            if not isinstance(sample.X, Impressions) and sample.X.dtype == np.float64:
                network.double()
        examples = learning.Examples.read(inputs, sample)
        validation = None if held_out is None else learning.Examples.read(inputs, held_out)
        if not resume:
            learning.start_at_base_rate(network, examples)
        n_epochs = len(self.loss_curve_) if resume else 0
        objective = self._objective(sample, inputs, network, random_state, n_epochs)
        pretrain = objective is not None and objective.pretrains and not resume
        if pretrain and incremental:
            objective, pretrain = None, False
        same = network.attach(None if objective is None else objective.module)
        optimizer = learning.Optimizer(network.to(device), self.learning_rate)
        moments = getattr(self, "_optimizer_state", None)
        if resume and same and moments is not None:
            optimizer.restore(moments)

        def fitted() -> dict[str, Any]:
            # A copy: whoever keeps it has the model of that epoch, not a training one.
            trained = copy.deepcopy(network)
            trained.fill_unseen_embeddings(inputs.feedback_count)
            if validation is None and trained.n_linear:  # else validation has done it
                learning.fused_decision(trained, examples, network.fusion)
            return {"classes_": classes, "_inputs": inputs, "_network": to_cpu(trained)}

        context = self._init_callback_context(max_subtasks=max_iter * (1 + pretrain))
        callbacks = EpochCallbacks(self, context, X, y, fitted)
        result = learning.learn(
            network,
            inputs,
            examples,
            validation,
            optimizer=optimizer,
            random_state=random_state,
            batch_size=rows_a_step(self.batch_size, len(sample)),
            max_iter=max_iter,
            embedding_l2=self.embedding_l2,
            n_iter_no_change=None if validation is None else self.n_iter_no_change,
            tol=self.tol,
            callbacks=callbacks,
            name=name,
            verbose=self.verbose,
            objective=objective,
            pretrain=pretrain,
        )
        losses = self.loss_curve_ if resume else []
        scores = (self.validation_scores_ or []) if resume else []
        self.__dict__.pop("item_ids_", None)
        self.__dict__.update(fitted())
        if inputs.has_items:
            self.item_ids_ = inputs.item_ids
        self.loss_curve_: list[float] = losses + result.loss_curve
        self.validation_scores_: list[float] | None = (scores + result.validation_curve) or None
        self.n_iter_ = len(self.loss_curve_)
        self._optimizer_state = optimizer.state()
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
        """
        check_is_fitted(self)
        from skmars.ctr._learning import Examples, decision
        from skmars.utils._torch import resolve_device

        device = resolve_device(self.device)
        rows = self._check_rows(X, has_items=self._inputs.has_items)
        examples = Examples.read(self._inputs, Sample(rows, np.zeros(0, dtype=np.float32)))
        network = self._network
        if device.type != "cpu":
            network = copy.deepcopy(network).to(device)
        logit = decision(network, examples.rows, examples.features)
        if not np.isfinite(logit).all():
            row = int(np.argmin(np.isfinite(logit)))
            raise FloatingPointError(
                f"{type(self).__name__}: the prediction of row {row} is infinite or NaN. Most "
                "likely the learning rate of the fit was too large: fit again with a lower "
                "learning_rate."
            )
        return logit

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        X : Impressions, table, or array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, 2), float64
            In the order of ``classes_``.
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

    # --- input ------------------------------------------------------------------------------

    def _check_rows(self, X: Any, *, has_items: bool | None) -> Any:
        """Return `X` as impressions or as a numeric array.

        `has_items` says which of both it has to be; None leaves it open, and remembers columns.
        """
        impressions = as_impressions(X)
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
        check_columns(self, impressions, reset=has_items is None)
        known = set(self.feature_names_in_)
        check_numbers(impressions, [name for name in impressions.context if name in known])
        return impressions

    def _warn_of_own_answers(self, X: Any) -> None:
        """Say so if an earlier step has learnt from what became of the rows to be trained on."""
        own = X.fold == OWN if isinstance(X, Impressions) and X.fold is not None else np.zeros(0)
        if own.any():
            warnings.warn(
                f"{type(self).__name__} is trained on {np.count_nonzero(own)} rows of users whose "
                "later behaviour an earlier step has learnt, so that features of these rows know "
                "the click that is to be predicted. Let the earlier steps make them by "
                "fit_transform, as a Pipeline does, or fit those on rows before these.",
                UserWarning,
                stacklevel=6,
            )

    def _learn_inputs(self, sample: Sample) -> Inputs:
        if not isinstance(sample.X, Impressions):
            return Inputs.of_array(sample.X, sample.count)
        return Inputs.of_impressions(
            sample.X,
            sample.count,
            max_length=self.max_length,
            borrowed=self.borrowed,
            item_features=self.item_features,
            linear_context=self.linear_context,
        )

    def _build(self, inputs: Inputs, random_state: np.random.RandomState) -> DINNetwork:
        from skmars.ctr._network import DINNetwork
        from skmars.utils._torch import DrawFrom, new_generator

        with DrawFrom(new_generator(random_state)):
            return DINNetwork(
                n_dense=0 if inputs.scaler is None else inputs.scaler.n_features_in_,
                n_linear=inputs.n_linear,
                n_categories=[len(count) - 1 for count in inputs.category_counts],
                n_items=None if inputs.item_ids is None else len(inputs.item_ids),
                item_features=inputs.item_features,
                embedding_dim=self.embedding_dim,
                attention_units=self.attention_units,
                hidden_units=self.hidden_units,
                activation=self.activation,
                attention_normalization=self.attention_normalization,
                feedback=inputs.has_feedback,
                borrowed=self.borrowed if inputs.has_borrowed else None,
                activity_feature=self.activity_feature,
            )

    def _objective(
        self,
        sample: Sample,
        inputs: Inputs,
        network: DINNetwork,
        random_state: np.random.RandomState,
        n_epochs: int,
    ) -> AuxiliaryLoss | None:
        if self.auxiliary is None:
            return None
        if not inputs.has_items:
            raise ValueError(
                f"auxiliary={self.auxiliary!r} works on histories, but X is a plain numeric array. "
                "Pass impressions, or set auxiliary=None."
            )
        from skmars.utils._torch import DrawFrom, new_generator

        table_row = inputs.table_rows(sample.X.catalog)
        with DrawFrom(new_generator(random_state)):
            return auxiliary_loss(self.auxiliary, sample.X, table_row, network.item_dim, n_epochs)

    # --- scikit-learn -----------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
