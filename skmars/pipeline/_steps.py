"""Find steps of a fitted pipeline, and what comes to them; give it another pool or classifier."""

from __future__ import annotations

from copy import copy
from typing import Any

from sklearn.pipeline import Pipeline

from skmars.data import Impressions
from skmars.retrieval import DonorPool, SequenceRetrievalAugmenter


def augmenter_in(model: Any) -> SequenceRetrievalAugmenter | None:
    """Return the augmenter of a fitted model, whatever its step is named; the last of several."""
    found = [step for step in _steps(model) if isinstance(step, SequenceRetrievalAugmenter)]
    return found[-1] if found else None


def before_augmenter(
    model: Any, X: Impressions
) -> tuple[SequenceRetrievalAugmenter | None, Impressions]:
    """Return the augmenter of a fitted model, and the rows as the steps before it make them.

    Parameters
    ----------
    model : Pipeline, SequenceRetrievalAugmenter or a search with `best_estimator_`
    X : Impressions

    Returns
    -------
    augmenter : SequenceRetrievalAugmenter or None
        The last one; None if the model has none.
    X : Impressions
    """
    augmenter = augmenter_in(model)
    if augmenter is not None:
        for step in _steps(model):
            if step is augmenter:
                break
            X = step.transform(X)
    return augmenter, X


def with_pool(pipeline: Pipeline, pool: DonorPool) -> Pipeline:
    """Return a fitted pipeline whose augmenter borrows from another pool; all else is shared.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted. Other pipelines may be nested in it.
    pool : DonorPool

    Returns
    -------
    Pipeline

    Raises
    ------
    ValueError
        If the pipeline has no `SequenceRetrievalAugmenter`, or the pool does not fit it.
    """
    if augmenter_in(pipeline) is None:
        raise ValueError(
            "the pipeline has no SequenceRetrievalAugmenter, so that it borrows from no pool. Take "
            "one with an augmenter, such as that of make_mars."
        )
    return _with_pool(pipeline, pool)


def classifier_in(pipeline: Pipeline) -> Any:
    """Return the classifier that a fitted pipeline ends in, also if it is nested."""
    return _steps(pipeline)[-1]


def before_classifier(pipeline: Pipeline, X: Impressions) -> tuple[Any, Impressions]:
    """Return the classifier of a fitted pipeline, and rows as the steps before it make them."""
    *others, classifier = _steps(pipeline)
    for step in others:
        X = step.transform(X)
    return classifier, X


def with_classifier(pipeline: Pipeline, classifier: Any) -> Pipeline:
    """Return a fitted pipeline that ends in another classifier; all else is shared."""
    return _with_classifier(pipeline, classifier)


def _with_classifier(model: Any, classifier: Any) -> Any:
    if hasattr(model, "best_estimator_"):
        changed = copy(model)
        changed.best_estimator_ = _with_classifier(model.best_estimator_, classifier)
        return changed
    if not isinstance(model, Pipeline):
        return classifier
    changed = copy(model)
    *others, (name, last) = model.steps
    changed.steps = [*others, (name, _with_classifier(last, classifier))]
    return changed


def _with_pool(model: Any, pool: DonorPool) -> Any:
    if isinstance(model, SequenceRetrievalAugmenter):
        return model.with_pool(pool)
    if hasattr(model, "best_estimator_"):
        changed = copy(model)
        changed.best_estimator_ = _with_pool(model.best_estimator_, pool)
        return changed
    if not isinstance(model, Pipeline):
        return model
    changed = copy(model)
    changed.steps = [(name, _with_pool(step, pool)) for name, step in model.steps]
    return changed


def _steps(model: Any) -> list[Any]:
    """Return the steps of a pipeline, in which others may be nested, that do something."""
    model = getattr(model, "best_estimator_", model)
    if not isinstance(model, Pipeline):
        return [] if model in (None, "passthrough") else [model]
    return [step for _, inner in model.steps for step in _steps(inner)]
