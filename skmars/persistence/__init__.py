"""A fitted pipeline and the histories of its users as a file, and back."""

from skmars.persistence._model import Columns, Model
from skmars.persistence._model_file import load_model, save_model

__all__ = ["Columns", "Model", "load_model", "save_model"]
