"""What a comparison of models on the same test rows says: a table, and a recommendation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

from skmars.data._frames import make_frame
from skmars.metrics import delong_test, gauc_bootstrap_test
from skmars.metrics._significance import PairedTest
from skmars.utils._html import document, table, unbroken

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

Interval = tuple[float, float]
NOTHING = (np.nan, np.nan)
# Models that cost next to nothing: which of them the choice begins with is no matter of certainty.
SIMPLE = ("popularity", "click rates")


class TestedRows(NamedTuple):
    """What is known of the test rows."""

    clicked: NDArray[np.int64]
    users: NDArray[Any]
    low_active: NDArray[np.bool_]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Models that were fitted to the same rows and tested on the same rows.

    Made by `compare`. Printing it shows the table and the recommendation.

    Attributes
    ----------
    table : pandas.DataFrame, polars.DataFrame or pyarrow.Table
        One line a model, from the simple to the complex: `model`; `auc`, `log_loss`, `gauc`
        (see :func:`skmars.metrics.gauc_score`) and `auc_low_active` (of low-active users alone),
        each with the ends of its interval in `..._lower` and `..._upper`; `difference` of its AUC
        to that of the recommended model, with its ends and its `pvalue` (of this test alone);
        `seconds` for fitting and testing. NaN where something is undefined, as is GAUC where no
        user has both clicked and unclicked test rows.
    recommendation : str
        Which model to use, and how certain that is.
    recommended : str
        Its name.
    models : dict of str to estimator
        Fitted; where there are several splits, to the last one.
    test : ndarray of shape (n_test_rows,), int64
        Row numbers of the test rows.
    probability : dict of str to ndarray of shape (n_test_rows,)
        Of a click, by each model.
    """

    recommendation: str
    recommended: str
    models: Mapping[str, Any]
    test: NDArray[np.int64]
    probability: Mapping[str, NDArray[np.float64]]
    _columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    _frame: str | None = None

    @property
    def table(self) -> IntoDataFrame:
        return make_frame(self._columns, self._frame)

    def __str__(self) -> str:
        head, lines = self._cells()
        widths = [max(map(len, column)) for column in zip(head, *lines)]
        text = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
            for line in (head, *lines)
        ]
        return "\n".join([*text, "", self.recommendation])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, lines = self._cells()
        rows = [[model, *map(unbroken, cells)] for model, *cells in lines]
        return document(table("Scores of the models", head, rows), self.recommendation)

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the table as text; scores that are undefined for all models are left out."""
        names = {"auc": "AUC", "log_loss": "log loss", "gauc": "GAUC"}
        names |= {"auc_low_active": "low-active AUC", "difference": "difference in AUC"}
        names = {k: v for k, v in names.items() if not np.isnan(self._columns[k]).all()}
        head = ["model", *names.values(), "seconds"]
        lines = []
        for i, model in enumerate(self._columns["model"]):
            cells = [model]
            for name in names:
                value, *ends = (self._columns[f"{name}{end}"][i] for end in ENDS)
                signed = "+" if name == "difference" else ""
                if name == "difference" and model == self.recommended:
                    cells.append("recommended")
                else:
                    cells.append(_with_interval(value, (ends[0], ends[1]), signed))
            lines.append([*cells, f"{self._columns['seconds'][i]:.1f}"])
        return head, lines


ENDS = ("", "_lower", "_upper")


def compared(
    models: Mapping[str, Any],
    probability: Mapping[str, NDArray[np.float64]],
    seconds: Mapping[str, float],
    test: NDArray[np.int64],
    rows: TestedRows,
    *,
    confidence_level: float,
    random_state: int | np.random.RandomState | None,
    frame: str | None,
) -> Comparison:
    """Score models, in the order from the simple to the complex, and recommend one."""
    names = list(models)
    tests = _paired_tests(names, probability, rows, confidence_level)
    steps = _steps(names, tests, probability, rows, 1 - confidence_level)
    recommended = steps[-1]

    columns: dict[str, list[Any]] = {"model": names}
    for name in names:
        p = probability[name]
        scores = {
            "auc": _auc(rows, p, confidence_level),
            "log_loss": _log_loss(rows, p, confidence_level),
            "gauc": _gauc(rows, p, confidence_level, random_state),
            "auc_low_active": _auc(
                _select(rows, rows.low_active), p[rows.low_active], confidence_level
            ),
        }
        pair, sign = (recommended, name), 1
        if pair not in tests:
            pair, sign = (name, recommended), -1
        if pair in tests:
            low, high = tests[pair].confidence_interval
            ends = (low, high) if sign > 0 else (-high, -low)
            scores["difference"] = (sign * tests[pair].difference, ends)
        else:
            scores["difference"] = (np.nan, NOTHING)
        for score, (value, ends) in scores.items():
            for end, number in zip(ENDS, (value, *ends)):
                columns.setdefault(f"{score}{end}", []).append(number)
        columns.setdefault("pvalue", []).append(tests[pair].pvalue if pair in tests else np.nan)
        columns.setdefault("seconds", []).append(seconds[name])
    words = [
        _choice(steps, names, tests, rows),
        _against_chance(recommended, columns, rows),
        _low_active(recommended, names, probability, rows, confidence_level),
    ]
    return Comparison(
        " ".join(filter(None, words)),
        recommended,
        dict(models),
        test,
        dict(probability),
        {k: np.array(v, dtype=object if k == "model" else np.float64) for k, v in columns.items()},
        frame,
    )


# --- scores with intervals ---------------------------------------------------------------


def _select(rows: TestedRows, some: NDArray[np.bool_]) -> TestedRows:
    return TestedRows(rows.clicked[some], rows.users[some], rows.low_active[some])


def _testable(rows: TestedRows) -> bool:
    """Tell whether DeLong's test is defined: two rows of each class, and two users."""
    n = np.bincount(rows.clicked, minlength=2)
    return bool(n.min() >= 2 and len(np.unique(rows.users)) >= 2)


def _auc(rows: TestedRows, p: NDArray[np.float64], level: float) -> tuple[float, Interval]:
    if not _testable(rows):
        return np.nan, NOTHING
    # Against a model that tells nothing, whose AUC is 0.5 for certain.
    test = delong_test(rows.clicked, p, np.zeros(len(p)), users=rows.users, confidence_level=level)
    low, high = test.confidence_interval
    return test.score, (max(0.5 + low, 0.0), min(0.5 + high, 1.0))


def _gauc(
    rows: TestedRows,
    p: NDArray[np.float64],
    level: float,
    random_state: int | np.random.RandomState | None,
) -> tuple[float, Interval]:
    try:
        test = gauc_bootstrap_test(
            rows.clicked,
            p,
            np.zeros(len(p)),
            rows.users,
            confidence_level=level,
            random_state=random_state,
        )
    except ValueError:  # fewer than two users have clicked and unclicked rows
        return np.nan, NOTHING
    low, high = test.confidence_interval
    return test.score, (0.5 + low, 0.5 + high)


def _log_loss(rows: TestedRows, p: NDArray[np.float64], level: float) -> tuple[float, Interval]:
    _, code = np.unique(rows.users, return_inverse=True)
    tiny = np.finfo(np.float64).eps
    losses = -np.log(np.clip(np.where(rows.clicked == 1, p, 1 - p), tiny, 1))
    mean, n_users = float(losses.mean()), int(code.max()) + 1
    of_user = np.bincount(code, losses - mean) / len(losses)
    margin = float(norm.ppf(0.5 + level / 2) * np.sqrt(of_user @ of_user))
    margin *= np.sqrt(n_users / (n_users - 1))
    return mean, (mean - margin, mean + margin)


# --- which model is significantly better ---------------------------------------------------


def holm(pvalues: list[float]) -> list[float]:
    """Adjust p-values so that all together are wrong as rarely as each alone (Holm 1979).

    Examples
    --------
    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.array(pvalues, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    steps = p[order] * (len(p) - np.arange(len(p)))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def _paired_tests(
    names: list[str],
    probability: Mapping[str, NDArray[np.float64]],
    rows: TestedRows,
    level: float,
) -> dict[tuple[str, str], PairedTest]:
    """Return the test of each model against each simpler one: keys are (simpler, model)."""
    return {
        (base, model): delong_test(
            rows.clicked,
            probability[model],
            probability[base],
            users=rows.users,
            confidence_level=level,
        )
        for i, base in enumerate(names)
        for model in names[i + 1 :]
    }


def _against(
    base: str, names: list[str], tests: Mapping[tuple[str, str], PairedTest]
) -> dict[str, tuple[PairedTest, float]]:
    """Return the tests of all more complex models against one, with p-values by Holm."""
    found = {name: tests[base, name] for name in names[names.index(base) + 1 :]}
    return dict(zip(found, zip(found.values(), holm([t.pvalue for t in found.values()]))))


def _steps(
    names: list[str],
    tests: Mapping[tuple[str, str], PairedTest],
    probability: Mapping[str, NDArray[np.float64]],
    rows: TestedRows,
    alpha: float,
) -> list[str]:
    """Return which model the choice begins with, and which ones take its place, one by one."""
    simple = [name for name in names if name in SIMPLE] or names[:1]
    steps = [max(simple, key=lambda name: roc_auc_score(rows.clicked, probability[name]))]
    while True:
        better = [
            name
            for name, (test, pvalue) in _against(steps[-1], names, tests).items()
            if test.difference > 0 and pvalue < alpha
        ]
        if not better:
            return steps
        steps.append(better[0])


# --- words -----------------------------------------------------------------------------------


def _with_interval(value: float, ends: Interval, sign: str = "") -> str:
    if np.isnan(value):
        return ""
    return f"{value:{sign}.3f} [{ends[0]:{sign}.3f}, {ends[1]:{sign}.3f}]"


def _gain(test: PairedTest, pvalue: float) -> str:
    difference = _with_interval(test.difference, test.confidence_interval, "+")
    return f"{difference}, p = {pvalue:.2g} after Holm's correction"


def _choice(
    steps: list[str],
    names: list[str],
    tests: Mapping[tuple[str, str], PairedTest],
    rows: TestedRows,
) -> str:
    """Say which model to use, what it gains, and what the more complex ones would."""
    chosen = steps[-1]
    said = [f"Use {chosen!r}:"]
    if len(steps) > 1:
        gain = _gain(*_against(steps[-2], names, tests)[chosen])
        said.append(f"its AUC is significantly higher than that of {steps[-2]!r} ({gain}).")
    later = _against(chosen, names, tests)
    if not later:
        simple = (
            "its AUC is the highest of the simple models, and nothing more complex was compared."
        )
        only = "it is the only model." if len(names) == 1 else simple
        said.append(only if len(steps) == 1 else "It is the most complex of these models.")
        return " ".join(said)
    best = max(later, key=lambda name: later[name][0].difference)
    nothing = "nothing" if len(steps) == 1 else "Nothing"
    said.append(
        f"{nothing} more complex is significantly better on these {len(rows.clicked)} test rows. "
        f"The best of what is more complex, {best!r}, differs in AUC by {_gain(*later[best])}."
    )
    return " ".join(said)


def _against_chance(chosen: str, columns: Mapping[str, list[Any]], rows: TestedRows) -> str:
    """Say so where a model does not rank better than chance, or its probabilities are off."""
    at = columns["model"].index(chosen)
    said = []
    if columns["auc_lower"][at] <= 0.5:
        said.append(
            "Beware: not even this model ranks significantly better than chance. Most "
            "likely there are too few rows to tell."
        )
    share = float(rows.clicked.mean())
    plain = log_loss(rows.clicked, np.full(len(rows.clicked), share))
    loss = columns["log_loss"][at]
    if loss > plain:
        said.append(
            f"Its probabilities are worse than the same one for all rows would be (log loss "
            f"{loss:.3f} against {plain:.3f}): use them to rank, or calibrate them."
        )
    return " ".join(said)


def _low_active(
    chosen: str,
    names: list[str],
    probability: Mapping[str, NDArray[np.float64]],
    rows: TestedRows,
    level: float,
) -> str:
    """Say which more complex models help users with short histories significantly."""
    low = _select(rows, rows.low_active)
    if not _testable(low):
        return ""
    p = {name: probability[name][rows.low_active] for name in names}
    against = _against(chosen, names, _paired_tests(names, p, low, level))
    helps = [
        f"{name!r} helps low-active users ({_gain(test, pvalue)})"
        for name, (test, pvalue) in against.items()
        if test.difference > 0 and pvalue < 1 - level
    ]
    return "" if not helps else "Yet " + ", and ".join(helps) + "."
