"""The same functions on Ray: scoring of tables, blocks of users for a runner, training."""

from skmars.distributed._map import RayMap
from skmars.distributed._predict import predict
from skmars.distributed._training import fit, partial_fit

__all__ = ["RayMap", "fit", "partial_fit", "predict"]
