"""Constraints of the parameters of the baselines."""

from __future__ import annotations

from numbers import Integral, Real

from skmars.utils._parameters import Number

# Nobody's history is longer: a larger number is a mistake, and histories would fill the memory.
MOST_ITEMS = 1_000_000

N_ITEMS = [Number(Integral, 1, MOST_ITEMS, closed="both")]
SHARE = [Number(Real, 0, 1, closed="both")]
SHARES = {
    "crop": SHARE,
    "mask": [Number(Real, 0, 1, closed="left")],  # a mask of everything would leave no history
    "reorder": SHARE,
    "substitute": SHARE,
    "insert": SHARE,
}
POSITIVE = [Number(Real, 0, None, closed="neither")]
NOT_NEGATIVE = [Number(Real, 0, None, closed="left")]
ITEM_ID = [Number(Integral, -(2**63), 2**63 - 1, closed="both"), str]
