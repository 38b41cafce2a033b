"""The same functions on Ray: scoring of tables, the runner, searches, and training."""

from skmars.distributed._map import RayMap
from skmars.distributed._predict import predict
from skmars.distributed._search import parallel_backend
from skmars.distributed._training import fit, partial_fit

__all__ = ["RayMap", "fit", "parallel_backend", "partial_fit", "predict"]
