"""Item texts and pictures that show latent factors through noise."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from skmars.utils._values import as_objects

N_WORDS, IMAGE_SIZE = 12, 16

# One line a factor. Real words, so that a person who reads a borrowed history sees its theme.
THEMES = [
    "harbour regatta anchor sail lagoon tide lighthouse mast",
    "jazz saxophone swing trumpet blues quartet vinyl groove",
    "alpine summit glacier ridge climber avalanche rope peak",
    "galaxy orbit rocket nebula astronaut comet lunar telescope",
    "detective murder alibi clue suspect inspector motive verdict",
    "garden orchid meadow blossom greenhouse seedling tulip fern",
    "dragon sorcerer castle wizard prophecy spell sword throne",
    "pastry bakery vanilla chocolate croissant oven caramel dough",
    "cavalry trench battalion general siege cannon armistice medal",
    "robot circuit android cyborg machine chip algorithm drone",
    "wedding romance bouquet kiss honeymoon letter bride waltz",
    "desert camel dune oasis caravan nomad mirage sandstorm",
    "football stadium goalkeeper penalty striker league referee derby",
    "haunted ghost vampire crypt midnight coffin werewolf curse",
    "ballet ballerina tutu rehearsal pirouette stage choreography ovation",
    "jungle tiger parrot river canopy expedition liana jaguar",
    "racing engine circuitry turbo driver lap pitstop asphalt",
    "cowboy saloon sheriff rodeo prairie ranch lasso outlaw",
    "chess gambit bishop checkmate grandmaster pawn endgame knight",
    "puppet kindergarten teddy balloon lullaby playground crayon rattle",
    "opera soprano aria libretto overture tenor baritone chorus",
    "heist safe casino diamond getaway vault alarm accomplice",
    "surf wave beach board coral reef island palm",
    "temple pagoda lantern samurai bamboo monk shrine kimono",
    "coffee espresso barista roast mug latte aroma mocha",
    "railway locomotive station platform signal carriage tunnel conductor",
    "senate election campaign president scandal ballot lobby speech",
    "surgeon hospital nurse scalpel diagnosis ambulance ward patient",
    "pharaoh pyramid sphinx mummy papyrus tomb scarab obelisk",
    "winter snowman sleigh mitten icicle skating frost blizzard",
    "circus acrobat clown juggler trapeze ringmaster tent elephant",
    "pirate treasure cutlass galleon buccaneer map plank cannonball",
]


def vocabulary(n_factors: int) -> NDArray[np.str_]:
    """Return the words of each factor, shape (n_factors, 8); all words differ."""
    # Where the themes are used up, they come again with a number behind each word.
    rounds = [divmod(factor, len(THEMES)) for factor in range(n_factors)]
    return np.array([[f"{w}{n + 1 if n else ''}" for w in THEMES[i].split()] for n, i in rounds])


def texts(
    factors: NDArray[np.float64], noise: float, rng: RandomState
) -> dict[str, NDArray[np.object_]]:
    """Return titles and texts; each word is of a factor of its item, or with `noise` of any."""
    words = vocabulary(factors.shape[1])
    # A factor is drawn for each word, as often as its weight says.
    cumulative = np.cumsum(factors, axis=1)
    u = rng.uniform(size=(len(factors), N_WORDS)) * cumulative[:, -1:]
    factor = (u[:, :, None] >= cumulative[:, None, :]).sum(axis=2)
    stray = rng.uniform(size=factor.shape) < noise
    factor = np.where(stray, rng.randint(len(words), size=factor.shape), factor)
    drawn = words[factor, rng.randint(words.shape[1], size=factor.shape)]
    # A title is an item's strongest theme and its number: unique, and never noisy.
    main = words[factors.argmax(axis=1), rng.randint(words.shape[1], size=len(factors))]
    return {
        "title": as_objects(f"{word.capitalize()} {i}" for i, word in enumerate(main)),
        "text": as_objects(" ".join(row) for row in drawn),
    }


def images(factors: NDArray[np.float64], noise: float, rng: RandomState) -> NDArray[np.object_]:
    """Return uint8 pictures: two colours that alternate in waves, all of it set by the factors."""
    n_items, n_factors = factors.shape
    # A factor's look: two RGB colours, direction and number of the waves.
    look = np.hstack([rng.uniform(size=(n_factors, 6)), rng.uniform(-2.0, 2.0, (n_factors, 2))])
    shown = factors @ look + noise * rng.normal(size=(n_items, 8))
    grid = np.linspace(-0.5, 0.5, IMAGE_SIZE)
    phase = (
        shown[:, 6, None, None] * grid[:, None]
        + shown[:, 7, None, None] * grid
        + rng.uniform(size=(n_items, 1, 1))
    )
    weight = 0.5 + 0.5 * np.sin(2.0 * np.pi * phase)[..., None]
    first, second = shown[:, None, None, 0:3], shown[:, None, None, 3:6]
    picture = weight * first + (1.0 - weight) * second
    picture += 0.5 * noise * rng.normal(size=picture.shape)
    return as_objects(np.clip(255.0 * picture, 0, 255).astype(np.uint8))
