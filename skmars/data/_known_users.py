"""What is known of users, also of those who have not done anything yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skmars.data._attributes import Attribute, take_known
from skmars.data._user_columns import filled
from skmars.utils._ids import Ids, Lookup, factorize, joined


@dataclass(frozen=True, eq=False)
class KnownUsers:
    """Users and their attributes.

    Parameters
    ----------
    ids : ndarray of shape (n_users,)
        Distinct.
    attributes : mapping of str to Attribute of n_users entries
    """

    ids: Ids
    attributes: Mapping[str, Attribute]

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.ids, "the users with attributes")

    def __getstate__(self) -> dict[str, Any]:
        # Cached properties are computed again faster than they are read.
        return {"ids": self.ids, "attributes": self.attributes}

    def of(self, users: Ids, name: str) -> dict[str, Attribute]:
        """Return the attributes of these users, missing for those who are not known.

        Raises
        ------
        TypeError
            If one holds integers and the other strings. `name` says whose ids `users` are.
        """
        if not self.attributes or users is self.ids:
            return dict(self.attributes)
        known = self._lookup(users, name)
        return {attribute: take_known(v, known) for attribute, v in self.attributes.items()}

    def replaced_by(self, told: KnownUsers) -> KnownUsers:
        """Return the users of both; of an attribute that both have, `told` counts."""
        ids = factorize(joined(self.ids, told.ids))[0]
        return KnownUsers(ids, {**self.of(ids, "user_id"), **told.of(ids, "user_id")})

    def completed_by(self, told: KnownUsers) -> KnownUsers:
        """Return the users of both; what `told` lacks of an attribute stays what it was."""
        both = self.replaced_by(told)
        old = self.of(both.ids, "user_id")
        attributes = {
            name: filled(entries, old[name], f"attribute {name!r} of users")
            if name in old and name in told.attributes
            else entries
            for name, entries in both.attributes.items()
        }
        return KnownUsers(both.ids, attributes)


NOBODY = KnownUsers(np.zeros(0, dtype=np.int64), {})
