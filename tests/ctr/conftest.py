"""What the tests of DIN share."""

from __future__ import annotations

import numpy as np
import pytest

from skmars import DINClassifier, Impressions

from .impressions import din, make_data


@pytest.fixture(scope="module")
def data() -> tuple[Impressions, np.ndarray]:
    return make_data()


@pytest.fixture(scope="module")
def fitted(data) -> DINClassifier:
    return din().fit(*data)
