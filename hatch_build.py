"""Compile what is compiled, where that can be done; without it skmars computes on PyTorch alone."""

from __future__ import annotations

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledPerceptron(BuildHookInterface):
    """Builds `skmars.ctr._kernel`; the wheel is then one of this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before files are collected."""
        script = Path(self.root, "skmars", "ctr", "_kernel", "build.py")
        try:
            runpy.run_path(str(script))["build"]()
        except RuntimeError as error:
            self.app.display_warning(f"skmars is built without compiled code: {error}")
            return
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{system}"
        build_data["pure_python"] = False
