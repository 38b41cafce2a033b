"""What all estimators of skmars share: callbacks, documentation links, frame output."""

from __future__ import annotations

from typing import Any

from sklearn.base import TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils._set_output import _get_output_config

# Where the documentation is. Assign another place (a build on this machine, say) and the links
# in the diagrams of estimators lead there.
DOCUMENTATION = "https://skmars.readthedocs.io/stable"


class DocLinkMixin:
    """The link to the documentation in the diagram of an estimator. Stands left of the others."""

    _doc_link_module = "skmars"
    _doc_link_template = "{documentation}/api/skmars.{folder}.{name}.html"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        cls = type(self)
        folder = cls.__module__.split(".")[1]
        return {"documentation": DOCUMENTATION, "folder": folder, "name": cls.__name__}


class SkmarsMixin(DocLinkMixin, CallbackSupportMixin):
    """Documentation link and callbacks."""


class ImpressionsTransformerMixin(TransformerMixin):
    """A transformer whose output is `Impressions`, or a frame where `set_output` asks for one."""

    def _as_output(self, X: Any) -> Any:
        frame = _get_output_config("transform", self)["dense"]
        return X if frame == "default" else X.to_frame(frame)
