"""Impressions that several test files look at."""

from __future__ import annotations

import pytest

from skmars import Impressions

from .worlds import world


@pytest.fixture(scope="module")
def X() -> Impressions:
    """Timed impressions with feedback, user embeddings by an encoder."""
    return world(7, n_users=40, n_items=25, n_events=600, width=5)
