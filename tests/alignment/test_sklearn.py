"""SteinAligner as a citizen of scikit-learn: the complete battery on plain arrays."""

from __future__ import annotations

from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from skmars import SteinAligner

# The common battery shrinks to one check, silently, if an estimator says that it takes no arrays.
N_CHECKS = 46


@parametrize_with_checks([SteinAligner(8, max_iter=5)], xfail_strict=True)
def test_scikit_learn_battery(estimator, check) -> None:
    check(estimator)


def test_the_whole_battery_ran() -> None:
    results = check_estimator(SteinAligner(4, max_iter=2), on_skip=None)
    assert sum(r["status"] == "passed" for r in results) >= N_CHECKS
    assert not any(r["expected_to_fail"] for r in results)
