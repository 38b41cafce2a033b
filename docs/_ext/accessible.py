"""What a page lacks for who hears it, or has no mouse: names of buttons, roles, reachable boxes."""

from __future__ import annotations

import re
from html import escape
from typing import Any

_OPENED = re.compile(r"(<a [^>]*>(.*?)</a>\s*<details[^>]*>)<summary>", re.DOTALL)

_IN_BODY = {
    'role="doc-biblioentry"': 'role="listitem"',
    # Wide outputs scroll, also with the arrow keys.
    '<div class="output_subarea output_html': '<div tabindex="0" class="output_subarea output_html',
}


def _named(match: re.Match[str]) -> str:
    page = re.sub(r"<[^>]*>", "", match[2]).strip()
    return f'{match[1]}<summary aria-label="Pages under {escape(page)}">'


def _complete(
    _app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any
) -> None:
    """Name what opens a part of the sidebar, and mend what Sphinx and its gallery wrote."""
    toctree = context.get("generate_toctree_html")
    if toctree is not None:

        def named(kind: str, **given: Any) -> Any:
            html = toctree(kind, **given)
            return _OPENED.sub(_named, str(html)) if kind == "sidebar" else html

        context["generate_toctree_html"] = named
    if "body" in context:
        for before, after in _IN_BODY.items():
            context["body"] = context["body"].replace(before, after)


def setup(app: Any) -> dict[str, bool]:
    """Register what is done to a page after the theme has done its part."""
    app.connect("html-page-context", _complete, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
