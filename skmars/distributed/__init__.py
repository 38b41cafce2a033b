"""The same functions on a cluster of Ray: scoring of tables, the runner, and searches."""

from skmars.distributed._map import RayMap
from skmars.distributed._predict import predict
from skmars.distributed._search import parallel_backend

__all__ = ["RayMap", "parallel_backend", "predict"]
