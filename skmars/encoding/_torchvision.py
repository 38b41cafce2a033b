"""Make an installed but broken torchvision importable.

A CUDA build of torchvision on a CPU build of PyTorch can't load its compiled operators. Its
Python part then fails at import, because it registers shapes for two operators that nobody
declared, and takes timm, open_clip and even sentence-transformers with it. Image transforms
need none of these operators: declaring them is enough.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

# The operators that torchvision's Python part refers to at import.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# PyTorch forgets the declarations when this object is collected.
_library: Any = None


@cache
def repair_torchvision() -> bool:
    """Import torchvision; if that fails for missing operators, declare these and import it again.

    Returns True if that was necessary; raises RuntimeError if torchvision can't be imported for
    another reason.
    """
    global _library
    if find_spec("torchvision") is None:
        return False
    try:
        import_module("torchvision")
        return False
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    from torch.library import Library

    _library = Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        _library.define(schema)
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    try:
        import_module("torchvision")
    except RuntimeError as error:
        raise RuntimeError(
            "The installed torchvision does not fit the installed torch, and can't be worked "
            f"around ({error}). Install a matching pair, or uninstall torchvision if no image "
            "model needs it: pip uninstall torchvision"
        ) from error
    return True
