"""Formulas as MathML, which browsers draw themselves: no script, no font, no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from math_core import LatexToMathML

_CONVERTER = LatexToMathML()


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(_CONVERTER.convert_with_local_state(node.astext(), displaystyle=False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    latex = node.astext()
    if r"\\" in latex:  # as Sphinx does for other renderers: a line break asks for aligned lines
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    self.body.append(self.starttag(node, "div", CLASS="math", tabindex="0"))
    self.body.append(_CONVERTER.convert_with_local_state(latex, displaystyle=True))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
