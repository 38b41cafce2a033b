"""The same functions on a cluster of Ray: scoring of tables, blocks of users for a runner."""

from skmars.distributed._map import RayMap
from skmars.distributed._predict import predict

__all__ = ["RayMap", "predict"]
