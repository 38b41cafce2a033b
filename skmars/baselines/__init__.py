"""Baselines that change histories: transformers, and auxiliary objectives for DIN."""

from skmars.baselines._auxiliary import AuxiliaryLoss, AuxiliaryObjective
from skmars.baselines._editing import CropMaskReorder, CropMaskReorderSubstituteInsert
from skmars.baselines._objectives import BASRec, CL4SRec, CoSeRec
from skmars.baselines._prepending import RandomItems, RandomSequence, RepeatPad

__all__ = [
    "AuxiliaryLoss",
    "AuxiliaryObjective",
    "BASRec",
    "CL4SRec",
    "CoSeRec",
    "CropMaskReorder",
    "CropMaskReorderSubstituteInsert",
    "RandomItems",
    "RandomSequence",
    "RepeatPad",
]
