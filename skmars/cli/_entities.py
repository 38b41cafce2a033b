"""Read what is known of items and users: the catalogue, and attributes of users."""

from __future__ import annotations

from typing import Any

from skmars.cli._source import Source
from skmars.cli._tables import read_table
from skmars.data import Impressions, ItemCatalog
from skmars.persistence import Columns, Model
from skmars.persistence._tables._columns import ids_of, named, require
from skmars.persistence._tables._rows import with_known_users
from skmars.persistence._tables._typed import typed_columns


def read_items(path: Source | None, model: Model) -> ItemCatalog:
    """Read other items for a model; without a file, return its own."""
    if path is None:
        return model.histories.catalog
    table = item_table(path, model.columns, ids_of(model)[model.columns.item])
    return as_catalog(table, path, model.columns)[0]


def item_table(path: Source, columns: Columns, kind: str | None) -> Any:
    names = {name: getattr(columns, name) for name in ("title", "text", "image")}
    texts = [*(column or name for name, column in names.items()), *columns.attributes]
    table = read_table(path, {columns.item: kind}, texts, to_strings=columns.ids == "strings")
    options = [(f"--{name}", column) for name, column in names.items()]
    options += [("--attributes", column) for column in columns.attributes]
    require(table, path, [("--item", columns.item), *options])
    return table


def as_catalog(
    table: Any, path: Source, columns: Columns
) -> tuple[ItemCatalog, dict[str, str | None]]:
    """Make a catalogue of a table, and return the kinds of its attributes.

    Paths of images are relative to the folder of its file.
    """
    table, kinds = typed_columns(
        table, path, columns.attributes, "--attributes", columns.list_separator
    )
    catalog = named(
        path,
        ItemCatalog.from_frame,
        table,
        item=columns.item,
        title=columns.title,
        text=columns.text,
        image=columns.image,
        attributes=list(columns.attributes),
    )
    if "image" not in catalog.content:
        return catalog, kinds
    folder = path.parent.resolve()
    images = [str(folder / v) if isinstance(v, str) and v else v for v in catalog.content["image"]]
    content = {**catalog.content, "image": images}
    return ItemCatalog(catalog.ids, content=content, attributes=catalog.attributes), kinds


def read_attributes(
    path: Source, columns: Columns, kind: str | None
) -> tuple[Any, dict[str, str | None]]:
    """Read the attributes of users, and return their kinds.

    These are the columns that `columns.user_attributes` names, or else all but that of the ids.
    """
    user = columns.user
    table = read_table(path, {user: kind}, None, to_strings=columns.ids == "strings")
    wanted = columns.user_attributes
    needed = [("--user", user), *(("--user-attributes", name) for name in wanted)]
    require(table, path, needed)
    if not wanted:
        wanted = dict.fromkeys(name for name in table.column_names if name != user)
    table, kinds = typed_columns(table, path, wanted, "--user-attributes", columns.list_separator)
    return table.select([user, *wanted]), kinds


def with_users(X: Impressions, users: Source | None, model: Model) -> Impressions:
    """Return the impressions with the attributes of users: of a table, or those that fit knew."""
    columns = model.columns
    if users is not None:
        if not columns.user_attributes:
            raise ValueError(
                f"the model was fitted without attributes of users, so that {users} is of no use. "
                "Fit with --users, or leave it out."
            )
        table, _ = read_attributes(users, columns, ids_of(model)[columns.user])
        return named(users, X.with_users, table, user=columns.user)
    return with_known_users(X, model)
