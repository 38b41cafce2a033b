"""Impressions with planted look-alike groups, whose truth is known."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from skmars.data import Impressions, ItemCatalog
from skmars.data._log import Events, LogFormat, log_fields
from skmars.datasets import _content

# Log-odds of a click between the best and the worst affinity: about 0.92 and 0.08.
CLICK_SCALE = 2.5
APPEAL = 0.7  # standard deviation of what makes an item clicked by everybody, in log-odds
# How strictly "shown by taste" follows it: a liked item is 400 times as likely as a disliked one.
SHOWN_SCALE = 3.0
ACTIVITY_SIGMA = 1.5  # of the log-normal lengths: two fifths of the users stay at 2-5 events
MIN_LENGTH = 2
FIRST_DAY, N_SECONDS = 1_600_000_000, 90 * 86_400
BLOCK = 4_000_000  # cells of the user x item matrix that are held at once
# Which values the parameters of the generators may take.
SHARE, NOT_NEGATIVE = (
    [Interval(Real, 0, 1, closed="both")],
    [Interval(Real, 0, None, closed="left")],
)
CONSTRAINTS = {
    "n_users": [Interval(Integral, 1, None, closed="left")],
    "n_items": [Interval(Integral, MIN_LENGTH, None, closed="left")],
    "n_groups": [Interval(Integral, 1, None, closed="left")],
    "n_factors": [Interval(Integral, 2, None, closed="left")],
    "mean_length": [Interval(Real, MIN_LENGTH, None, closed="left")],
    "chance": SHARE,
    "deviation": NOT_NEGATIVE,
    "text_noise": SHARE,
    "image_noise": NOT_NEGATIVE,
    "history": [StrOptions({"positive", "all"})],
}


class EventOptions(TypedDict, total=False):
    """The parameters, for type checkers, that generators share beside the two numbers."""

    mean_length: float
    history: str
    random_state: int | RandomState | None


class Groups(EventOptions, total=False):
    """Those of `make_multimodal_ctr`."""

    n_groups: int
    n_factors: int
    chance: float
    deviation: float
    text_noise: float
    image_noise: float


@overload
def make_multimodal_ctr(
    n_users: int = ...,
    n_items: int = ...,
    *,
    return_truth: Literal[False] = ...,
    **rest: Unpack[Groups],
) -> tuple[Impressions, NDArray[np.int64]]: ...
@overload
def make_multimodal_ctr(
    n_users: int = ..., n_items: int = ..., *, return_truth: Literal[True], **rest: Unpack[Groups]
) -> tuple[Impressions, NDArray[np.int64], Bunch]: ...
def make_multimodal_ctr(
    n_users: int = 500,
    n_items: int = 300,
    *,
    n_groups: int = 8,
    n_factors: int = 32,
    mean_length: float = 20.0,
    chance: float = 0.5,
    deviation: float = 0.3,
    text_noise: float = 0.3,
    image_noise: float = 0.05,
    history: str = "positive",
    random_state: int | RandomState | None = None,
    return_truth: bool = False,
) -> tuple[Any, ...]:
    """Generate impressions of users who have planted look-alikes.

    Every group of users likes a few of the latent factors of the items and dislikes the others. A
    user's taste is that of the group plus a small deviation. Most users see a handful of items
    only, so that their own history shows a part of what their group likes; the rest can be known
    from their look-alikes alone. Texts and pictures of the items are noisy views of the same
    factors.

    Parameters
    ----------
    n_users, n_items, n_groups : int, default=500, 300, 8
        Number of users, of items, and of look-alike groups.
    n_factors : int, default=32
        Number of latent factors (item clusters). They are dealt to the groups one after another,
        ``ceil(n_factors / n_groups)`` each, at least two.
    mean_length : float, default=20.0
        Expected number of impressions of a user. The lengths follow a shifted log-normal law: with
        the default, two fifths of the users have 2 to 5 impressions and one in twenty has more
        than 60. No user sees an item twice, so no length exceeds `n_items`.
    chance : float, default=0.5
        Part of the impressions that is shown by chance, whatever the user likes. The others are
        shown by taste; a user's first impression always is.
    deviation : float, default=0.3
        Standard deviation of a user's taste around that of the group, whose own entries are 1
        (likes) and -1 (dislikes).
    text_noise : float, default=0.3
        Part of the words of a text that have nothing to do with the item.
    image_noise : float, default=0.05
        Standard deviation of the noise on colours, waves and pixels, where 1 is the full range of
        a colour.
    history : {"positive", "all"}, default="positive"
        Whether histories hold the clicked items only, or all impressions with the click as
        feedback, as in `Impressions.from_log`.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same data on every call.
    return_truth : bool, default=False
        Whether to return what was planted as a third value.

    Returns
    -------
    X : Impressions
        All impressions, user after user, each user's in the order of time. The catalogue carries
        `title`, `text` and `image` (uint8 arrays of shape (16, 16, 3)).
    y : ndarray of shape (n_impressions,), int64
        1 where the user clicked.
    truth : Bunch
        Only with ``return_truth=True``; arrays of float64, but for the groups (int64):

        * `group`, (n_users,): group of each user, aligned with `X.users`;
        * `click_probability`, (n_impressions,): of which each `y` is a draw;
        * `item_factors`, (n_items, n_factors): weights of the factors, rows sum to 1;
        * `item_appeal`, (n_items,): what an item adds to everybody's log-odds of a click;
        * `group_taste`, (n_groups, n_factors): 1 for the factors that a group likes, -1 else;
        * `user_taste`, (n_users, n_factors).

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or is out of its range.

    See Also
    --------
    make_small_shop : Impressions of users who have few look-alikes.
    skmars.datasets.load_movielens_1m : Real impressions with plots and posters.

    Examples
    --------
    >>> from skmars.datasets import make_multimodal_ctr
    >>> X, y, truth = make_multimodal_ctr(n_users=50, random_state=0, return_truth=True)
    >>> len(X) == len(y) == len(truth.click_probability)
    True
    >>> truth.group.shape
    (50,)
    """
    validate_parameter_constraints(CONSTRAINTS, locals(), "make_multimodal_ctr")
    rng = check_random_state(random_state)

    item_factors = main_factors(n_items, n_factors, rng)
    item_appeal = APPEAL * rng.normal(size=n_items)
    group_taste = _group_taste(n_groups, n_factors, rng)
    group = rng.permutation(np.arange(n_users) % n_groups)
    user_taste = group_taste[group] + deviation * rng.normal(size=(n_users, n_factors))

    # A long tail: log-normal, divided by its mean.
    extra = rng.lognormal(sigma=ACTIVITY_SIGMA, size=n_users) / np.exp(0.5 * ACTIVITY_SIGMA**2)
    length = MIN_LENGTH + (extra * (mean_length - MIN_LENGTH)).astype(np.int64)
    length = np.minimum(length, n_items)
    user = np.repeat(np.arange(n_users), length)
    target = _shown_items(user_taste, item_factors, length, chance, rng)
    time = _times(user, rng)
    affinity = np.einsum("ij,ij->i", user_taste[user], item_factors[target])
    click_probability = expit(CLICK_SCALE * affinity + item_appeal[target])
    y = (rng.uniform(size=len(user)) < click_probability).astype(np.int64)

    content = _content.texts(item_factors, text_noise, rng)
    content["image"] = _content.images(item_factors, image_noise, rng)
    X = impressions(content, user, target, y, time, history)
    truth = Bunch(
        group=group,
        click_probability=click_probability,
        item_factors=item_factors,
        item_appeal=item_appeal,
        group_taste=group_taste,
        user_taste=user_taste,
    )
    return (X, y, truth) if return_truth else (X, y)


def main_factors(n_items: int, n_factors: int, rng: RandomState) -> NDArray[np.float64]:
    """Every item has one main factor, of weight 0.8 to 1, and a second one."""
    main = rng.permutation(np.arange(n_items) % n_factors)
    second = (main + rng.randint(1, n_factors, size=n_items)) % n_factors
    weight = rng.uniform(0.8, 1.0, size=n_items)
    factors = np.zeros((n_items, n_factors))
    factors[np.arange(n_items), main] = weight
    factors[np.arange(n_items), second] = 1.0 - weight
    return factors


def _group_taste(n_groups: int, n_factors: int, rng: RandomState) -> NDArray[np.float64]:
    """Deal the factors to the groups like cards: no overlap as long as there are enough."""
    n_liked = max(2, -(-n_factors // n_groups))
    n_decks = -(-n_groups * n_liked // n_factors)
    deck = np.concatenate([rng.permutation(n_factors) for _ in range(n_decks)])
    liked = deck[: n_groups * n_liked].reshape(n_groups, n_liked)
    taste = np.full((n_groups, n_factors), -1.0)
    np.put_along_axis(taste, liked, 1.0, axis=1)
    return taste


def _shown_items(
    user_taste: NDArray[np.float64],
    item_factors: NDArray[np.float64],
    length: NDArray[np.int64],
    chance: float,
    rng: RandomState,
) -> NDArray[np.int64]:
    """Draw each user's items without repetition, the first one by taste (Gumbel top-k)."""
    n_items = len(item_factors)
    block = max(1, BLOCK // n_items)
    shown = []
    for begin in range(0, len(length), block):
        rows = slice(begin, begin + block)
        taste = softmax(SHOWN_SCALE * user_taste[rows] @ item_factors.T, axis=1)
        noise = rng.gumbel(size=taste.shape)
        first = np.argmax(np.log(taste) + rng.gumbel(size=taste.shape), axis=1)
        keys = np.log((1.0 - chance) * taste + chance / n_items) + noise
        np.put_along_axis(keys, first[:, None], np.inf, axis=1)
        ranked = np.argsort(-keys, axis=1)
        # Drawn one after another, a long list would run out of liked items towards its
        # end. Shuffling what was drawn, all but the first, makes the order say nothing.
        column = np.arange(n_items)
        key = np.where(column < length[rows, None], rng.uniform(size=taste.shape), 2.0)
        key[:, 0] = -1.0
        order = np.argsort(key, axis=1)
        shuffled = np.take_along_axis(ranked, order, axis=1)
        shown.append(shuffled[column < length[rows, None]])
    return np.concatenate(shown)


def _times(user: NDArray[np.int64], rng: RandomState) -> NDArray[np.float64]:
    """Whole seconds within ninety days, strictly increasing within each user."""
    time = np.floor(rng.uniform(0, N_SECONDS, size=len(user)))
    time = time[np.lexsort((time, user))]
    # Where a user would do two things within one second, the second one waits for the next.
    while (same := (np.diff(user) == 0) & (np.diff(time) <= 0)).any():
        time[1:][same] += 1
    return FIRST_DAY + time


def impressions(
    content: dict[str, NDArray[np.object_]],
    user: NDArray[np.int64],
    target: NDArray[np.int64],
    y: NDArray[np.int64],
    time: NDArray[np.float64],
    history: str,
    **context: NDArray[np.float64],
) -> Impressions:
    """Return events, which stand in the order of user and time, as `from_log` does."""
    catalog = ItemCatalog(np.arange(len(content["title"])), content=content)
    users = np.arange(user[-1] + 1)
    codes = user.astype(np.int32), target.astype(np.int32)
    form = LogFormat(
        "user_id", "item_id", "timestamp", None, "clicked", history, tuple(context), "warn"
    )
    events = Events(users, *codes, y, time, None, context)
    return Impressions(**log_fields(events, catalog, form)[0])
