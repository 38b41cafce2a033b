"""Fitted pipelines, and models with the histories of their users, as folders without pickle."""

from skmars.persistence._model import Columns, Model
from skmars.persistence._saved import load, register, save

__all__ = ["Columns", "Model", "load", "register", "save"]
