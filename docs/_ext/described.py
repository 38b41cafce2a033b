"""What search engines and messengers show of a page: its title and its first sentences."""

from __future__ import annotations

from html import escape
from textwrap import shorten
from typing import Any

from docutils import nodes

LENGTH = 160  # characters of a description that are shown
_ASIDE = nodes.Admonition, nodes.table, nodes.figure, nodes.field_list


def description(doctree: nodes.document) -> str:
    """Return the first paragraph of a page that stands in its text, shortened."""
    for paragraph in doctree.findall(nodes.paragraph):
        parent = paragraph.parent
        while parent is not None and not isinstance(parent, _ASIDE):
            parent = parent.parent
        text = " ".join(paragraph.astext().split())
        if parent is None and len(text) >= 20:
            return shorten(text, LENGTH, placeholder=" …")
    return ""


def _describe(
    app: Any, page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add the description to the head of a page, unless it has one of its own."""
    text = description(doctree) if doctree is not None else ""
    facts = {
        "og:type": "website",
        "og:site_name": app.config.project,
        "og:title": doctree.next_node(nodes.title).astext() if text else app.config.project,
        "og:description": text or app.config.html_title,
    }
    if app.config.html_baseurl:
        facts["og:url"] = app.config.html_baseurl + app.builder.get_target_uri(page)
    tags = [
        f'<meta property="{name}" content="{escape(value)}" />' for name, value in facts.items()
    ]
    if text and 'name="description"' not in context.get("metatags", ""):
        tags.append(f'<meta name="description" content="{escape(text)}" />')
    context["metatags"] = context.get("metatags", "") + "\n    ".join(["", *tags])


def setup(app: Any) -> dict[str, bool]:
    """Register the description."""
    app.connect("html-page-context", _describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
