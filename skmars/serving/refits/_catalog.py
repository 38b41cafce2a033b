"""The items of a model, with what a newer table tells of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skmars.data import ItemCatalog
from skmars.data._attributes import Attribute, as_attribute
from skmars.utils._stacked import take_rows
from skmars.utils._values import as_objects


def told_anew(known: ItemCatalog, told: ItemCatalog) -> ItemCatalog:
    """Return a catalogue with what another one tells of its items, and with the new items of that.

    Parameters
    ----------
    known : ItemCatalog
        Says which content, attributes and features there are.
    told : ItemCatalog
        For its items, what it has of these counts.

    Returns
    -------
    ItemCatalog
        The items of `known` in their order, then those that `told` alone has.

    Raises
    ------
    TypeError
        If ids are integers in the one and strings in the other, or an attribute has another type.
    ValueError
        If `told` has nothing that `known` has.
    """
    base = known.extend(told.ids)
    kinds = ("content", "attributes", "features")
    told_of = {kind: getattr(known, kind).keys() & getattr(told, kind).keys() for kind in kinds}
    if not any(told_of.values()):
        names = [name for kind in kinds for name in getattr(known, kind)]
        raise ValueError(
            f"items tells nothing that the model knows of items ({', '.join(names) or 'ids alone'})"
            ". Name a table with these columns, or leave it out."
        )
    at = told.codes(base.ids)
    # Rows of `base`, and behind these the rows of `told`.
    rows = np.where(at >= 0, len(base) + at.astype(np.int64), np.arange(len(base)))
    content, attributes = dict(base.content), dict(base.attributes)
    features, missing = dict(base.features), dict(base.missing)
    for name in told_of["content"]:
        content[name] = take_rows([base.content[name], told.content[name]], rows)
    for name in told_of["attributes"]:
        attributes[name] = _chosen(name, base.attributes[name], told.attributes[name], rows)
    for name in told_of["features"]:
        if known.widths[name] != told.widths[name]:
            raise ValueError(
                f"features {name!r} of items have {told.widths[name]} columns, and "
                f"{known.widths[name]} in the model. Make them in the same way."
            )
        features[name] = take_rows([base.features[name], told.features[name]], rows)
        missing[name] = take_rows([base.missing[name], told.missing[name]], rows)
    new = ItemCatalog(base.ids, content=content, features=features, missing=missing)
    return new._with_known(attributes)


def _chosen(name: str, ours: Attribute, theirs: Attribute, rows: NDArray[np.int64]) -> Attribute:
    """Return entries of two columns, the second of which stands behind the first."""
    if ours.kind != theirs.kind:
        raise TypeError(
            f"attribute {name!r} of items holds one {theirs.kind} an item, and one {ours.kind} in "
            "the model. Convert the column."
        )
    what = f"attribute {name!r} of items"
    if ours.kind == "number":
        return as_attribute(np.concatenate([ours.values, theirs.values])[rows], what)
    return as_attribute(as_objects([*ours.to_list(), *theirs.to_list()])[rows], what)


def check_pictures(catalog: ItemCatalog) -> None:
    """Raise FileNotFoundError if items have files of pictures, and none of these is there.

    A catalogue keeps the names of files. Single ones that lack are told by the encoder.
    """
    named = [v for v in catalog.content.get("image", ()) if isinstance(v, str | os.PathLike) and v]
    if named and not any(Path(v).exists() for v in named):
        raise FileNotFoundError(
            f"none of the {len(named)} pictures of the items is there (such as {named[0]}): the "
            "model was fitted with them, and keeps the names of their files. Put them back, or "
            "pass a table of items that says where they are."
        )
