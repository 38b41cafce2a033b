"""What flows through the pipeline: impressions, their histories and the catalogue."""

from skmars.data._catalog import ItemCatalog
from skmars.data._impressions import Impressions
from skmars.data._k_core import k_core
from skmars.data._sequences import Sequences

__all__ = ["Impressions", "ItemCatalog", "Sequences", "k_core"]
