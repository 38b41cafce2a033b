"""The baselines' ways to change a history: transformers, and auxiliary objectives for DIN."""

from skmars.augmentation.editing import CropMaskReorder, CropMaskReorderSubstituteInsert
from skmars.augmentation.objectives import BASRec, CL4SRec, CoSeRec
from skmars.augmentation.prepending import RandomItems, RandomSequence, RepeatPad

__all__ = [
    "BASRec",
    "CL4SRec",
    "CoSeRec",
    "CropMaskReorder",
    "CropMaskReorderSubstituteInsert",
    "RandomItems",
    "RandomSequence",
    "RepeatPad",
]
