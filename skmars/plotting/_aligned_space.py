"""The modalities of items before and after they were aligned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import orthogonal_procrustes
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skmars.alignment import SteinAligner
from skmars.data import ItemCatalog
from skmars.data._checks import as_impressions
from skmars.plotting._figure import COLORS, MARKERS, Display, label_axes, neutral, require_step

Points = Mapping[str, NDArray[np.float64]]


@dataclass(eq=False, repr=False, kw_only=True)
class AlignedSpaceDisplay(Display):
    """Items in two dimensions, before and after alignment, one mark for each modality.

    A line joins the modalities of an item: the shorter the lines, the better aligned. It is
    recommended to use :meth:`from_estimator` or :meth:`from_embeddings`.

    Parameters
    ----------
    before, after : mapping of str to ndarray of shape (n_items, 2)
        Where each modality of each item lies.
    axis_name : str, default="component"
        What the two dimensions are.

    Attributes
    ----------
    points_, lines_ : list of dict of str to matplotlib PathCollection, list of LineCollection
        The marks of each modality and what joins those of an item, before and after.
    ax_, figure_ : ndarray of two matplotlib Axes, Figure

    Notes
    -----
    Before alignment the modalities have spaces of their own, with features that can't be
    compared. Each is reduced to two dimensions by itself, scaled to one size, and turned onto
    the first one as well as that can be done (Procrustes). After alignment one reduction serves all
    modalities, and nothing is turned.

    Two dimensions show a part of the space. For what holds in all of them see
    :func:`skmars.metrics.alignment_score`, and :class:`RetrievalPrecisionDisplay`.

    Examples
    --------
    >>> import numpy as np
    >>> from skmars.alignment import SteinAligner
    >>> from skmars.plotting import AlignedSpaceDisplay
    >>> rng = np.random.RandomState(0)
    >>> latent = rng.normal(size=(200, 4))
    >>> X = np.hstack([latent @ rng.normal(size=(4, 8)), latent @ rng.normal(size=(4, 6))])
    >>> aligner = SteinAligner(16, modalities=[8, 6], max_iter=30, random_state=0).fit(X)
    >>> display = AlignedSpaceDisplay.from_estimator(aligner, X, max_items=50, random_state=0)
    >>> display.after["view 1"].shape
    (50, 2)
    """

    before: Points
    after: Points
    axis_name: str = "component"

    @classmethod
    def from_estimator(
        cls,
        estimator: SteinAligner,
        X: Any,
        *,
        reducer: Any = "pca",
        max_items: int = 200,
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what an aligner made of its input, and return the display.

        Parameters
        ----------
        estimator : SteinAligner, fitted on two modalities at least
        X : Impressions, table of impressions, ItemCatalog or array of views
            What it takes: items with features, or rows with one block a view.
        reducer, max_items, random_state, ax, **kwargs
            As in `from_embeddings`.

        Raises
        ------
        NotFittedError, TypeError
            If `estimator` is no fitted `SteinAligner`, or was fitted on the other kind of `X`.
        ValueError
            If it knows fewer than two modalities, or fewer than three items have all of them.
        """
        require_step(estimator, SteinAligner, cls)
        encoder = estimator.encoder_
        if not isinstance(X, ItemCatalog):
            impressions = as_impressions(X)
            X = X if impressions is None else impressions.catalog
        estimator._check_same_input(isinstance(X, ItemCatalog))
        if isinstance(X, ItemCatalog):
            catalog = encoder.with_factors(X)
            after = encoder.embed_modalities(catalog)
            there = ~np.any([catalog.missing[name] for name in after], axis=0)
            before = {name: catalog.features[name][there] for name in after}
            after = {name: matrix[there] for name, matrix in after.items()}
        else:
            X = check_array(X, dtype=[np.float64, np.float32])
            sizes = encoder.network.sizes
            names = [f"view {i + 1}" for i in range(len(sizes))]
            blocks = np.split(encoder.standardize(X), np.cumsum(sizes)[:-1], axis=1)
            before, after = dict(zip(names, blocks)), dict(zip(names, encoder.embed_views(X)))
        kwargs.update(reducer=reducer, max_items=max_items, random_state=random_state)
        return cls.from_embeddings(before, after, ax=ax, **kwargs)

    @classmethod
    def from_embeddings(
        cls,
        before: Mapping[str, ArrayLike],
        after: Mapping[str, ArrayLike],
        *,
        reducer: Any = "pca",
        max_items: int = 200,
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Reduce embeddings to two dimensions, and return the display, drawn.

        Parameters
        ----------
        before : mapping of str to array-like of shape (n_items, n_features)
            Features of each modality; widths may differ. Row `i` is item `i` in all of them.
        after : mapping of str to array-like of shape (n_items, n_components)
            Embeddings of the same modalities in the space that they share.
        reducer : {"pca", "tsne"} or estimator with `fit_transform`, default="pca"
            Makes two columns of many.
        max_items : int, default=200
            If there are more, so many are drawn at random.
        random_state : int, RandomState instance or None, default=None
            Draws the items; seed of "pca" and "tsne".
        ax, **kwargs
            As in `plot`.

        Raises
        ------
        ValueError
            If the modalities of both differ or are fewer than two, numbers of rows differ, or
            there are fewer than three items.
        """
        check_matplotlib_support(f"{cls.__name__}.from_embeddings")
        names = list(after)
        if len(names) < 2 or set(names) != set(before):
            raise ValueError(
                "before and after must have the same modalities, two at least; got "
                f"{list(before)} and {names}."
            )
        original = {name: check_array(before[name], input_name=name) for name in names}
        aligned = {name: check_array(after[name], input_name=name) for name in names}
        check_consistent_length(*original.values(), *aligned.values())
        n = len(aligned[names[0]])
        if n < 3:
            raise ValueError(f"At least three items with all of {names} are needed, got {n}.")
        rng = check_random_state(random_state)
        chosen = np.sort(rng.permutation(n)[:max_items])
        reducer, axis_name = _reducer(reducer, len(chosen), int(rng.randint(2**31 - 1)))

        own = [clone(reducer).fit_transform(original[name][chosen]) for name in names]
        own = [points - points.mean(axis=0) for points in own]
        own = [points / np.linalg.norm(points) for points in own]
        turned = [points @ orthogonal_procrustes(points, own[0])[0] for points in own]
        stacked = clone(reducer).fit_transform(np.concatenate([aligned[m][chosen] for m in names]))
        old, new = dict(zip(names, turned)), dict(zip(names, np.split(stacked, len(names))))
        return cls(before=old, after=new, axis_name=axis_name).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw it, and return the display itself.

        Parameters
        ----------
        ax : sequence of two matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs
            Passed to matplotlib's `scatter`.
        """
        if ax is not None and np.size(ax) != 2:
            raise ValueError(f"ax must be two Axes, one for before and one for after; got {ax!r}.")
        self.ax_ = np.ravel(self._axes(ax, ncols=2, figsize=(7, 3.5)))
        from matplotlib.collections import LineCollection

        self.points_: list[dict[str, Any]] = []
        self.lines_: list[Any] = []
        panels = {"before: features": self.before, "after: aligned space": self.after}
        for axis, (title, points) in zip(self.ax_, panels.items()):
            first, *others = points.values()
            pairs = np.concatenate([np.stack([first, other], axis=1) for other in others])
            lines = LineCollection(list(pairs), colors=neutral(), alpha=0.25, linewidths=0.7)
            axis.add_collection(lines)
            self.lines_.append(lines)
            self.points_.append({})
            for (name, xy), color, marker in zip(
                points.items(), COLORS * len(points), MARKERS * len(points)
            ):
                style = {"color": color, "marker": marker, "s": 18, "linewidths": 0, **kwargs}
                self.points_[-1][name] = axis.scatter(xy[:, 0], xy[:, 1], label=name, **style)
            label_axes(axis, f"{self.axis_name} 1", f"{self.axis_name} 2", title)
            axis.set(xticks=[], yticks=[])  # coordinates have no unit, only distances say something
        self.ax_[1].legend()
        return self


def _reducer(reducer: Any, n_items: int, seed: int) -> tuple[Any, str]:
    """Return the transformer that makes two dimensions, and what they are called."""
    if reducer == "pca":
        return PCA(2, random_state=seed), "principal component"
    if reducer == "tsne":
        perplexity = min(30.0, (n_items - 1) / 3)
        return TSNE(2, perplexity=perplexity, init="pca", random_state=seed), "t-SNE dimension"
    if not hasattr(reducer, "fit_transform"):
        raise ValueError(
            f"reducer must be 'pca', 'tsne' or an estimator with fit_transform, got {reducer!r}."
        )
    return reducer, f"{type(reducer).__name__} dimension"
