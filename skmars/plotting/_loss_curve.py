"""Training loss and validation score of each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmars.plotting._figure import Display, label_axes, next_marker


@dataclass(eq=False, repr=False)
class LossCurveDisplay(Display):
    """Training loss, and where there is one the validation score, of each epoch.

    It is recommended to use :meth:`from_estimator`. Draw several models on the same axes to
    compare them: each has a colour, full lines for the loss and dashed ones for the score.

    Parameters
    ----------
    loss_curve : sequence of float
        Mean training loss of each epoch.
    validation_scores : sequence of float, default=None
        Score of the rows set aside after each epoch, higher is better.
    name : str, default=None
        What was trained; stands before the entries of the legend.

    Attributes
    ----------
    line_, validation_line_ : matplotlib Line2D
        The loss and the validation score; the latter may be None.
    ax_, validation_ax_, figure_ : matplotlib Axes, Axes or None, Figure
        The axes of the validation score are at the right side of `ax_`.

    See Also
    --------
    sklearn.callback.ScoringMonitor : Any score after each epoch.

    Examples
    --------
    >>> from skmars.plotting import LossCurveDisplay
    >>> display = LossCurveDisplay([0.69, 0.61, 0.58], [0.55, 0.63, 0.62]).plot()
    >>> display.validation_line_.get_ydata()
    array([0.55, 0.63, 0.62])
    """

    loss_curve: Sequence[float]
    validation_scores: Sequence[float] | None = None
    _: KW_ONLY
    name: str | None = None

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Draw the training of a fitted estimator, and return the display.

        Parameters
        ----------
        estimator : estimator with `loss_curve_`
            A fitted `SteinAligner` or `DINClassifier`, say; of a pipeline pass the step.
        name, ax, **kwargs
            As in `plot`; `name` is that of the class by default.

        Raises
        ------
        NotFittedError, TypeError
            If `estimator` is not fitted, or has no `loss_curve_`.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "loss_curve_"):
            steps = getattr(estimator, "steps", ())
            hint = " or ".join(f"pipeline[{k!r}]" for k, s in steps if hasattr(s, "loss_curve_"))
            raise TypeError(
                f"{type(estimator).__name__} has no loss_curve_. "
                f"Pass {hint or 'an estimator that is trained in epochs, such as DINClassifier'}."
            )
        name = type(estimator).__name__ if name is None else name
        scores = getattr(estimator, "validation_scores_", None)
        return cls(estimator.loss_curve_, scores, name=name).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> Self:
        """Draw it, and return the display itself.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        name : str, default=None
            Stands before the entries of the legend; None takes that of the display.
        **kwargs
            Passed to matplotlib's `plot` of both lines.
        """
        ax = self._axes(ax)
        from matplotlib.ticker import MaxNLocator

        name = self.name if name is None else name
        epochs = np.arange(1, len(self.loss_curve) + 1)
        before = "" if name is None else f"{name}: "
        style = {"marker": next_marker(ax), "markersize": 4, **kwargs}
        (self.line_,) = ax.plot(epochs, self.loss_curve, label=f"{before}training loss", **style)
        label_axes(ax, "epoch", "training loss")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        self.validation_ax_, self.validation_line_ = _right_side(ax), None
        if self.validation_scores is not None:
            if self.validation_ax_ is None:
                self.validation_ax_ = ax.twinx()
                self.validation_ax_.set_label(_RIGHT)
            style = {"color": self.line_.get_color(), "linestyle": "--", **style}
            (self.validation_line_,) = self.validation_ax_.plot(
                epochs[-len(self.validation_scores) :],
                self.validation_scores,
                label=f"{before}validation score (best {np.max(self.validation_scores):.3f})",
                **style,
            )
            label_axes(self.validation_ax_, ylabel="validation score")
        sides = [ax] if self.validation_ax_ is None else [ax, self.validation_ax_]
        handles = [line for side in sides for line in side.get_legend_handles_labels()[0]]
        ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small")
        return self


_RIGHT = "validation score"


def _right_side(ax: Any) -> Any:
    """Return the axes of the validation score, if an earlier display put them upon `ax`."""
    for other in ax.get_shared_x_axes().get_siblings(ax):
        same_place = np.array_equal(
            other.get_position(original=True).bounds, ax.get_position(original=True).bounds
        )
        if other.get_label() == _RIGHT and same_place:
            return other
    return None
