"""Training loss and validation score of each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmars.plotting._figure import BLUE, VERMILLION, Display


@dataclass(eq=False, repr=False)
class LossCurveDisplay(Display):
    """Training loss, and where there is one the validation score, of each epoch.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    loss_curve : sequence of float
        Mean training loss of each epoch.
    validation_scores : sequence of float, default=None
        Score of the rows set aside after each epoch, higher is better.
    name : str, default=None
        What was trained; title of the legend.

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
            Title of the legend; None takes that of the display.
        **kwargs
            Passed to matplotlib's `plot` of both lines.
        """
        ax = self._axes(ax)
        from matplotlib.ticker import MaxNLocator

        name = self.name if name is None else name
        epochs = np.arange(1, len(self.loss_curve) + 1)
        style = {"color": BLUE, "marker": ".", **kwargs}
        (self.line_,) = ax.plot(epochs, self.loss_curve, label="training loss", **style)
        ax.set(xlabel="epoch", ylabel="training loss (mean of the epoch)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        lines = [self.line_]
        self.validation_ax_ = self.validation_line_ = None
        if self.validation_scores is not None:
            self.validation_ax_ = ax.twinx()
            style = {"color": VERMILLION, "marker": ".", "linestyle": "--", **kwargs}
            (self.validation_line_,) = self.validation_ax_.plot(
                epochs[-len(self.validation_scores) :],
                self.validation_scores,
                label=f"validation score (best {np.max(self.validation_scores):.3f})",
                **style,
            )
            self.validation_ax_.set_ylabel("validation score (higher is better)")
            lines.append(self.validation_line_)
        ax.legend(handles=lines, title=name, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return self
