"""How the site is built: `make docs`. Nothing here needs a network."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

# The page of mistakes asks for a model that is nowhere: no waiting for a network to say so.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import skmars

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

project = "skmars"
author = copyright = "The skmars developers"
version = release = skmars.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",  # CONTRIBUTING.md, CHANGELOG.md and benchmarks/README.md are pages too
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "mathml",
    "folded",
    "described",
    "accessible",
]
exclude_patterns = ["_build", "drawings", "evidence/made"]
templates_path = ["_templates"]
smartquotes = False  # types and defaults of parameters hold quotes
default_role = "literal"  # as the docstrings of scikit-learn use single backticks
math_renderer = html_math_renderer = "mathml"

# --- API reference: the pages follow `__all__` of the folders -----------------------------------
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"  # numpydoc sections say the types
numpydoc_show_class_members = False
# Every reference into skmars must resolve; those to other projects need a network.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!skmars\.).*")]

toc_object_entries_show_parents = "hide"

# --- other projects' pages: linked where their inventories can be had, plain text where not -----
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "sklearn": ("https://scikit-learn.org/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "matplotlib": ("https://matplotlib.org/stable", None),
}
intersphinx_timeout = 5

# --- gallery -------------------------------------------------------------------------------------
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"demo\.py",  # has arguments, and runs in `make demo`
    "doc_module": ("skmars",),
    "backreferences_dir": "api/backreferences",
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "matplotlib_animations": False,
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

# --- looks ---------------------------------------------------------------------------------------
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["skmars.css", "site.css"]
html_title = "skmars"
html_baseurl = "https://skmars.readthedocs.io/en/stable/"
html_logo = html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "skmars", "alt_text": ""},
    "github_url": "https://github.com/skmars/skmars",
    "show_prev_next": True,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {
    "_modules/**": [],
    "index": [],
    "install": [],
    "quickstart": [],
    "evidence/index": [],
    "contributing": [],
    "changelog": [],
}


@cache
def public_names() -> dict[str, str]:
    """Return the full name under which each public name is documented."""
    full: dict[str, str] = {}
    for module in (DOCS / "api" / "index.rst").read_text().split():
        if module.startswith("skmars."):
            for name in import_module(module).__all__:
                full[name] = f"{module}.{name}"
    return full


def resolve_short_name(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Link `DINClassifier` and `skmars.DINClassifier` to `skmars.ctr.DINClassifier`."""
    if node.get("refdomain") != "py":
        return None
    name, _, member = node["reftarget"].removeprefix("skmars.").partition(".")
    if name not in (full := public_names()):
        return None
    target = ".".join(filter(None, [full[name], member]))
    return env.get_domain("py").resolve_xref(
        env, node["refdoc"], app.builder, "obj", target, node, contnode
    )


def write_mistakes(_app: Any) -> None:
    """Write the page of typical mistakes, with the messages that this version really gives."""
    sys.path.insert(0, str(DOCS.parent))
    (DOCS / "guide" / "mistakes.rst").write_text(import_module("tests.mistakes").page())


def setup(app: Any) -> None:
    """Register what is too small for an extension."""
    app.connect("builder-inited", write_mistakes)
    app.connect("missing-reference", resolve_short_name, priority=400)
    # Warnings are errors, but no network is none.
    logging.getLogger("sphinx.sphinx.ext.intersphinx").addFilter(
        lambda record: "inventories" not in str(record.msg)
    )
