"""Encode the raw content of items (texts, images) as modality features."""

from skmars.encoding._cache import clear_memory_cache
from skmars.encoding._image import ImageStatisticsEncoder
from skmars.encoding._multimodal import MultimodalEncoder
from skmars.encoding._open_clip import OpenClipEncoder
from skmars.encoding._sentence_transformers import SentenceTransformerEncoder
from skmars.encoding._text import TfidfEncoder
from skmars.encoding._timm import TimmImageEncoder

__all__ = [
    "ImageStatisticsEncoder",
    "MultimodalEncoder",
    "OpenClipEncoder",
    "SentenceTransformerEncoder",
    "TfidfEncoder",
    "TimmImageEncoder",
    "clear_memory_cache",
]
