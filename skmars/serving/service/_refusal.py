"""What the service refuses, and how it says so."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """A request that is not served: its status, a code for programs and a text for people.

    Parameters
    ----------
    status : int
        Of HTTP.
    code : str
        Short name of the reason, for programs and as a label of the metrics.
    message : str
        What was found, and what to do.
    field : str, default=None
        Place in the body: ``users[0].candidates``.
    headers : mapping of str to str, default=None
        Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field
        self.headers = dict(headers or {})
