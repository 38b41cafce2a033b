"""scikit-learn's complete battery on plain numeric arrays."""

from __future__ import annotations

from typing import Any

from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skmars import DINClassifier

N_CHECKS = 64  # scikit-learn 1.9 for a binary classifier of dense arrays; later ones add more


def din() -> DINClassifier:
    return DINClassifier()


@parametrize_with_checks([din()], xfail_strict=True)
def test_sklearn_check(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_battery_is_complete() -> None:
    """A tag such as two_d_array=False would shrink it to one check without a word."""
    assert len(list(estimator_checks_generator(din()))) >= N_CHECKS
