"""Which numbers a parameter may be."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)


class Number(Interval):
    """An interval of numbers without True and False, which Python counts among the integers.

    Where a fraction would do, it takes integers of 64 bits alone: larger ones make arrays fail.
    """

    def is_satisfied_by(self, val: Any) -> bool:
        """Tell whether a value is a number of the interval."""
        if isinstance(val, bool | np.bool_) or not super().is_satisfied_by(val):
            return False
        fits = self.type is Integral or not isinstance(val, Integral)
        return fits or -(2**63) <= int(val) < 2**63


def check_number(value: Any, interval: Number, name: str, caller: str) -> None:
    """Raise ValueError, which names the parameter `name` of `caller`, if it is no such number."""
    validate_parameter_constraints({name: [interval]}, {name: value}, caller_name=caller)


def check_choice(value: Any, choices: Iterable[str], name: str, caller: str) -> None:
    """Raise ValueError, which names the parameter `name` of `caller`, if it is no such word."""
    constraint = StrOptions(set(choices))
    validate_parameter_constraints({name: [constraint]}, {name: value}, caller_name=caller)
