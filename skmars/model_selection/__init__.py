"""Splits by time within each user, and scorers by user."""

from skmars.model_selection._scorer import (
    gauc_scorer,
    low_active_auc_scorer,
    make_user_scorer,
)
from skmars.model_selection._split import LeaveLastOut, leave_last_out

__all__ = [
    "LeaveLastOut",
    "gauc_scorer",
    "leave_last_out",
    "low_active_auc_scorer",
    "make_user_scorer",
]
