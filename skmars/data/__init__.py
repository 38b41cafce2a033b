"""What flows through the pipeline: impressions, their histories and the catalogue."""

from skmars.data.catalog import ItemCatalog
from skmars.data.impressions import Impressions
from skmars.data.sequences import Sequences

__all__ = ["Impressions", "ItemCatalog", "Sequences"]
