"""Through which files of skmars a call leads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import skmars

ROOT = Path(skmars.__file__).parent


def files_of(call: Callable[[], object]) -> set[str]:
    """Return the files of skmars whose functions run during a call, as paths below skmars/."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return {str(Path(file).relative_to(ROOT)) for file in seen if file.startswith(str(ROOT))}
