"""What an encoder computes, as a digest that is the same in every process."""

from __future__ import annotations

from typing import Any

from skmars.data._content import ContentDigester
from skmars.data._digest import NoDigest, Parts

# Parameters of scikit-learn's estimators that change how fast they are, not what they compute.
_IRRELEVANT = ("n_jobs", "verbose", "memory")


def fingerprint(*parts: Any) -> str:
    """Digest encoders and other values by all that their vectors may depend on.

    Estimators count by class and attributes; classes and functions that no package holds by their
    code and what that refers to (one that is edited in a notebook is another one); torch modules
    by weights, settings and mode; paths by the files' content.

    Raises
    ------
    NoDigest
        If one of them can't be told from others.
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
            # Callbacks and the output container watch and dress the result.
            left_out: tuple[str, ...] = ("_skl_", "_sklearn_")
            if kind.__module__.startswith("sklearn."):
                left_out += _IRRELEVANT
            # Not what a pickle holds, which may leave out what can be loaded again.
            state = vars(value).items()
            return "encoder", [kind, {k: v for k, v in state if not k.startswith(left_out)}]
        return super().decomposed(value)
