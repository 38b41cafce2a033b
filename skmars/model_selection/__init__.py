"""Splitting impressions by time within each user."""

from skmars.model_selection._split import LeaveLastOut, leave_last_out

__all__ = ["LeaveLastOut", "leave_last_out"]
