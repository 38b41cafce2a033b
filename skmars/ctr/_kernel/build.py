"""Compile the perceptron: ``python skmars/ctr/_kernel/build.py``. Building a wheel does it, too.

One file for each set of instructions; which one fits is known when it is loaded.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
# GNU's rules for arithmetic: products and sums are fused, nothing else is reordered.
FLAGS = ["-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-pthread"]


def targets() -> dict[str, list[str]]:
    """Return the files to make here, with the flags of each."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        levels = ("x86-64-v3", "x86-64-v4")
        return {f"perceptron-{level}.so": [f"-march={level}"] for level in levels}
    return {"perceptron-native.so": []}


def build(folder: Path = FOLDER) -> list[Path]:
    """Compile into a folder, with ``$CXX`` or what is found; return the files.

    Raises
    ------
    RuntimeError
        If there is no compiler, or it fails; the message says how.
    """
    command = shlex.split(os.environ.get("CXX", ""))
    compilers = [command] if command else [["c++"], ["g++"], ["clang++"]]
    found = [c for c in compilers if shutil.which(c[0])]
    if not found or sys.platform == "win32":
        raise RuntimeError(f"no C++ compiler was found (of {[c[0] for c in compilers]})")
    built = []
    for name, flags in targets().items():
        # Renamed when it is complete: a process may have the old one mapped.
        file, new = folder / name, folder / f"{name}.new"
        result = subprocess.run(
            [*found[0], *FLAGS, *flags, str(FOLDER / "perceptron.cpp"), "-o", str(new)],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            new.unlink(missing_ok=True)
            raise RuntimeError(f"{found[0][0]} failed: {result.stderr.strip()[-2000:]}")
        new.replace(file)
        built.append(file)
    return built


if __name__ == "__main__":
    print(*build(), sep="\n")
