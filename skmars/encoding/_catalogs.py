"""Read raw content from a catalogue, add features to it, and report unusable content."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from skmars.data import ItemCatalog
from skmars.encoding._content import NO_CONTENT
from skmars.encoding._encode import Features, not_finite, precomputed
from skmars.utils._values import rows_not_finite

_N_NAMED = 3  # kinds of problems that a message names, and items of each


def content_of(catalog: ItemCatalog, name: str, default: Any = None) -> Any:
    """Return the raw content of a modality; titles, if it is "text" and there is no text."""
    column = catalog.content.get(name)
    if column is None and name == "text":
        column = catalog.content.get("title")
    if column is None:
        if default is None:
            raise lacks(catalog, name)
        return default
    return column


def lacks(catalog: ItemCatalog, name: str) -> ValueError:
    """Return the error for a modality that the catalogue does not have."""

    def listed(names: Any) -> str:
        return ", ".join(map(repr, names)) or "none"

    return ValueError(
        f"The catalogue has no content for modality '{name}'; it has content: "
        f"{listed(catalog.content)}; features: {listed(catalog.features)}. Add the content to the "
        "catalogue, for example ItemCatalog.from_frame(items, text='plot', image='poster'), and "
        "pass it with the log: Impressions.from_log(log, catalog). For item ids alone, leave the "
        "encoder out: make_mars(encode='passthrough', align__modalities=())."
    )


def precomputed_of(catalog: ItemCatalog, name: str) -> Features:
    """Return the vectors that the catalogue has as content, or else as features."""
    if name in catalog.content:
        return precomputed(catalog.content[name], name, catalog.ids)
    if name not in catalog.features:
        raise lacks(catalog, name)
    vectors, missing = catalog.features[name], catalog.missing[name]
    bad = rows_not_finite(vectors)
    bad = bad[~missing[bad]]
    if len(bad):
        raise not_finite(name, catalog.ids[bad])
    absent = np.flatnonzero(missing)
    if len(absent) == len(missing):
        return nothing_usable(dict.fromkeys(absent.tolist(), NO_CONTENT), catalog)
    if len(absent):
        vectors = vectors.copy()
        vectors[absent] = 0.0
        vectors.flags.writeable = False  # so that the catalogue need not copy it
    return Features(vectors, missing, dict.fromkeys(absent.tolist(), NO_CONTENT))


def with_features_of(catalog: ItemCatalog, features: Mapping[str, Features]) -> ItemCatalog:
    """Return `catalog` with these features and their masks."""
    return catalog.with_features(
        {k: f.matrix for k, f in features.items()}, {k: f.missing for k, f in features.items()}
    )


def _examples(problems: Mapping[int, str], catalog: ItemCatalog) -> str:
    of_kind: dict[str, list[str]] = {}
    for i in sorted(problems):
        of_kind.setdefault(problems[i], []).append(str(catalog.ids[i]))
    shown = [
        ", ".join(ids[:_N_NAMED]) + ", ..." * (len(ids) > _N_NAMED) + f": {kind}"
        for kind, ids in of_kind.items()
    ]
    return "; ".join(shown[:_N_NAMED]) + "; ..." * (len(shown) > _N_NAMED)


def nothing_usable(problems: Mapping[int, str], catalog: ItemCatalog) -> Features:
    """Return empty features, for a modality of which no item has usable content."""
    n = len(catalog)
    return Features(np.zeros((n, 0), np.float32), np.ones(n, dtype=bool), dict(problems), 0)


def none_usable(name: str, features: Features, catalog: ItemCatalog) -> ValueError:
    """Return the error for a catalogue of which no item has usable content of its modality."""
    return ValueError(
        f"None of the {len(catalog)} items has usable {name} content "
        f"({_examples(features.problems, catalog)}). Leave the modality out or correct the content."
    )


def warn_masked(features: Mapping[str, Features], catalog: ItemCatalog, what: str) -> None:
    """Warn that items are masked, once for all modalities, and name the first items of each."""
    parts = [
        f"{name}: {len(f.problems)} of {len(catalog)} items ({_examples(f.problems, catalog)})"
        for name, f in features.items()
        if f.problems
    ]
    if parts:
        warnings.warn(
            f"Masked items with {what}. {'. '.join(parts)}. Their features are zero; a modality "
            "that no item has is left out. `missing_`, or `missing` of the catalogue that "
            "transform returns, lists all of them.",
            UserWarning,
            stacklevel=4,
        )
