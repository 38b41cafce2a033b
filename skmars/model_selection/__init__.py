"""Splits by time, negatives for logs of clicks alone, and scorers by user."""

from skmars.model_selection._negatives import correct_probability, sample_negatives
from skmars.model_selection._scorer import (
    gauc_scorer,
    low_active_auc_scorer,
    make_user_scorer,
    ranking_scorer,
)
from skmars.model_selection._split import LeaveLastOut, leave_last_out
from skmars.model_selection._time_split import TimeSplit, freeze_histories, time_split

__all__ = [
    "LeaveLastOut",
    "TimeSplit",
    "correct_probability",
    "freeze_histories",
    "gauc_scorer",
    "leave_last_out",
    "low_active_auc_scorer",
    "make_user_scorer",
    "ranking_scorer",
    "sample_negatives",
    "time_split",
]
