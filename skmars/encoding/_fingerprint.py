"""A digest of an encoder by all that its vectors depend on, the same in every process."""

from __future__ import annotations

from typing import Any

from skmars.data._content import ContentDigester
from skmars.data._digest import NoDigest, Parts

# Parameters of scikit-learn's estimators that change how fast they are, not what they compute.
_IRRELEVANT = ("n_jobs", "verbose", "memory")


def fingerprint(*parts: Any) -> str:
    """Return a digest of encoders and other values, by all that vectors may depend on.

    That is class and attributes of estimators, the code of classes and functions outside installed
    packages and what it refers to (so that an edit in a notebook changes it), weights, settings and
    mode of torch modules, and the content of files for paths.

    Raises
    ------
    NoDigest
        If one of them has no digest.
    OSError
        If a file of weights is not there.
    """
    try:
        return _EncoderDigester().digest(parts).hex()
    except NoDigest as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise


class _EncoderDigester(ContentDigester):
    def decomposed(self, value: Any) -> Parts:
        kind: Any = type(value)
        if hasattr(kind, "_fingerprint"):
            return "encoder", [kind, value._fingerprint()]
        if hasattr(kind, "transform") and not issubclass(kind, type):
            # Callbacks and the output container do not change the vectors.
            left_out: tuple[str, ...] = ("_skl_", "_sklearn_")
            if kind.__module__.startswith("sklearn."):
                left_out += _IRRELEVANT
            # Attributes, not the pickled state, which may leave out what can be loaded again.
            state = vars(value).items()
            return "encoder", [kind, {k: v for k, v in state if not k.startswith(left_out)}]
        return super().decomposed(value)
