"""A small shop with few look-alikes, whose click rates are known from an earlier period."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints

from skmars.data import Impressions
from skmars.datasets import _content
from skmars.datasets._generator import (
    CONSTRAINTS,
    FIRST_DAY,
    MIN_LENGTH,
    EventOptions,
    impressions,
    main_factors,
)

BASE = -0.4  # log-odds of a click of an average user on an average item
BIAS, APPEAL, TASTE = 0.6, 0.6, 0.6  # standard deviations, in log-odds
N_FACTORS = 8
TEXT_NOISE = 0.7
N_EARLIER = 20  # impressions of each user and of each item in the earlier period
SECONDS = 60.0  # between two impressions in the shop


@overload
def make_small_shop(
    n_users: int = ...,
    n_items: int = ...,
    *,
    return_truth: Literal[False] = ...,
    **rest: Unpack[EventOptions],
) -> tuple[Impressions, NDArray[np.int64]]: ...
@overload
def make_small_shop(
    n_users: int = ...,
    n_items: int = ...,
    *,
    return_truth: Literal[True],
    **rest: Unpack[EventOptions],
) -> tuple[Impressions, NDArray[np.int64], Bunch]: ...
def make_small_shop(
    n_users: int = 600,
    n_items: int = 400,
    *,
    mean_length: float = 12.0,
    history: str = "positive",
    random_state: int | RandomState | None = None,
    return_truth: bool = False,
) -> tuple[Any, ...]:
    """Generate impressions of a small shop in which look-alikes can hardly help.

    Some users click more than others, some items are clicked more than others, and every user has
    a modest taste that nobody shares: there are no groups. Click rates of users and items are known
    from an earlier period and are given as context, so that a plain classifier already knows most
    of what can be known. A model that adds anything learnt from other users has to be no worse than
    one that does not.

    Parameters
    ----------
    n_users, n_items : int, default=600, 400
        Number of users and of items.
    mean_length : float, default=12.0
        Expected number of impressions of a user, at least 2. No user sees an item twice, so no
        length exceeds `n_items`.
    history, random_state, return_truth : default="positive", None, False
        See `make_multimodal_ctr`.

    Returns
    -------
    X : Impressions
        All impressions, user after user, each user's in the order of time; no two have the same
        time. The catalogue carries `title` and `text`; on average seven of ten words of a text are
        drawn at random. The context has the columns `user_rate` and `item_rate`: the share of
        clicks among 20 other impressions of the user and of the item, before any impression of `X`.
    y : ndarray of shape (n_impressions,), int64
        1 where the user clicked.
    truth : Bunch
        Only with ``return_truth=True``; arrays of float64:

        * `click_probability`, (n_impressions,): of which each `y` is a draw;
        * `user_bias`, (n_users,): what a user adds to the log-odds of each click;
        * `item_appeal`, (n_items,): what an item adds to everybody's log-odds of a click;
        * `item_factors`, (n_items, 8): weights of the latent factors, rows sum to 1;
        * `user_taste`, (n_users, 8): what a user adds to the log-odds of a click for each factor.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or is out of its range.

    See Also
    --------
    make_multimodal_ctr : Impressions of users who have planted look-alikes.

    Examples
    --------
    >>> from skmars.datasets import make_small_shop
    >>> X, y, truth = make_small_shop(n_users=50, random_state=0, return_truth=True)
    >>> len(X) == len(y) == len(truth.click_probability)
    True
    >>> sorted(X.context)
    ['item_rate', 'user_rate']
    """
    validate_parameter_constraints(CONSTRAINTS, locals(), "make_small_shop")
    rng = check_random_state(random_state)

    user_bias = BIAS * rng.normal(size=n_users)
    item_appeal = APPEAL * rng.normal(size=n_items)
    item_factors = main_factors(n_items, N_FACTORS, rng)
    user_taste = TASTE * rng.normal(size=(n_users, N_FACTORS))

    def probability(user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.float64]:
        taste = np.einsum("...k,...k->...", user_taste[user], item_factors[item])
        return np.asarray(expit(BASE + user_bias[user] + item_appeal[item] + taste))

    everybody, everything = np.arange(n_users)[:, None], np.arange(n_items)[:, None]
    user_rate, item_rate = (
        (rng.uniform(size=p.shape) < p).mean(axis=1)
        for p in (
            probability(everybody, rng.randint(n_items, size=(n_users, N_EARLIER))),
            probability(rng.randint(n_users, size=(n_items, N_EARLIER)), everything),
        )
    )

    length = MIN_LENGTH + rng.poisson(mean_length - MIN_LENGTH, size=n_users)
    length = np.minimum(length, n_items)
    user = np.repeat(np.arange(n_users), length)
    target = np.concatenate([rng.permutation(n_items)[:n] for n in length])
    moment = rng.permutation(len(user))
    time = FIRST_DAY + SECONDS * moment[np.lexsort((moment, user))]
    click_probability = probability(user, target)
    y = (rng.uniform(size=len(user)) < click_probability).astype(np.int64)

    content = _content.texts(item_factors, TEXT_NOISE, rng)
    rates = {"user_rate": user_rate[user], "item_rate": item_rate[target]}
    X = impressions(content, user, target, y, time, history, **rates)
    truth = Bunch(
        click_probability=click_probability,
        user_bias=user_bias,
        item_appeal=item_appeal,
        item_factors=item_factors,
        user_taste=user_taste,
    )
    return (X, y, truth) if return_truth else (X, y)
