"""The right of one process at a time: who gets it, and whose is stale."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from skmars.serving.store._store import Lease, LeaseHeld, StaleLease

MAX_NAME_BYTES = 400


def check_name(name: str) -> bytes:
    """Return a name of a pointer or lease as bytes; ValueError if it can't be kept."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}.")
    if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
        raise ValueError(f"name must have 1 to {MAX_NAME_BYTES} bytes, got {name!r}.")
    return name.encode()


def check_request(name: str, holder: str, seconds: float) -> None:
    """Raise an error if a lease can't be asked for like this."""
    check_name(name)
    if not isinstance(holder, str):
        raise TypeError(f"holder must be a string, got {holder!r}.")
    if not holder:
        raise ValueError("holder is empty. Name the process, for example by host and process id.")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"seconds must be a positive number, got {seconds!r}.")


def grant(
    kept: dict[str, Any] | None, name: str, holder: str, seconds: float, now: float
) -> tuple[dict[str, Any], Lease | None, LeaseHeld | None]:
    """Return what is to be kept of a lease now, and the lease or why it is refused."""
    check_request(name, holder, seconds)
    kept = kept or {"holder": "", "token": 0, "until": now, "seconds": 0.0}
    if now < kept["until"] - kept["seconds"]:  # the clock was set back
        kept = kept | {"until": now + kept["seconds"]}
    if kept["holder"] not in ("", holder) and now < kept["until"]:
        return kept, None, held(name, kept["holder"], kept["until"], now)
    lease = Lease(name, holder, kept["token"] + 1, now + seconds)
    kept = {"holder": holder, "token": lease.token, "until": lease.until, "seconds": seconds}
    return kept, lease, None


def held(name: str, holder: str, until: float, now: float) -> LeaseHeld:
    """Return the error that says who holds a lease, and until when."""
    return LeaseHeld(
        f"The lease {name!r} is held by {holder!r} until "
        f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC, for {until - now:.0f} more "
        "seconds unless it is renewed. Wait, or stop that process."
    )


def check_lease(lease: Lease, kept: dict[str, Any] | None) -> None:
    """Raise StaleLease if a lease isn't the newest of its name, or was given back."""
    if kept is None or kept["token"] != lease.token or not kept["holder"]:
        raise stale(lease, kept["holder"] if kept else "")


def stale(lease: Lease, holder: str) -> StaleLease:
    """Return the error that says who has taken a lease since."""
    whom = f"{holder!r} has taken it since" if holder else "it was given back"
    return StaleLease(
        f"The lease {lease.name!r} of {lease.holder!r} (token {lease.token}) is not valid any "
        f"longer: {whom}. Nothing was published; take it again and look what has changed."
    )
