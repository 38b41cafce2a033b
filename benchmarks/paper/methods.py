"""The methods that are compared, their candidate settings, and the tables they stand in.

Settings are named as in the pipeline: `align__beta`, `augment__theta`, `ctr__embedding_l2`;
`rewrite__` is the step that rewrites training histories. Every method that is searched has the
same number of candidates, the first of which is the default (for the baselines: the published
recipe).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import skmars.baselines
from benchmarks.paper.data import SCARCE
from skmars.pipeline._mars import AS_PRINTED as PAPER

Settings = dict[str, Any]
Candidates = tuple[Settings, ...]


@dataclass(frozen=True)
class Method:
    """One way to predict clicks, always with the same DIN.

    Attributes
    ----------
    label : str
        Name in tables.
    rewrite : str or None
        Class of `skmars.baselines` that rewrites training histories.
    auxiliary : str or None
        Class of `skmars.baselines` that adds an objective to the training of DIN.
    rates : bool
        Whether logistic regression on click rates takes the place of DIN.
    aligned, borrows, random_donors : bool
        Which steps of MARS there are, and whether donors are drawn at random.
    vectors : bool
        Whether DIN reads item factors, where an aligner comes before.
    fixed : dict
        What differs from the base.
    candidates : tuple of dict
        Of which one is chosen by validation.
    like : str or None
        Takes the choice of this method instead.
    corrupt : tuple or None
        ("noise", amount), or ("text" or "image", share of the items that lose it).
    """

    label: str
    rewrite: str | None = None
    auxiliary: str | None = None
    rates: bool = False
    aligned: bool = False
    borrows: bool = False
    random_donors: bool = False
    vectors: bool = True
    fixed: Settings = field(default_factory=dict)
    candidates: Candidates = ()
    like: str | None = None
    corrupt: tuple[str, float] | None = None


def _each(name: str, *values: Any) -> Candidates:
    return ({}, *({name: value} for value in values))


DIN: Candidates = (
    {},
    {"ctr__learning_rate": 3e-4},
    {"ctr__embedding_dim": 20},
    {"ctr__embedding_l2": 1e-3},
)
FEW, MANY = (
    {"augment__n_neighbors": k, "augment__max_borrowed": m} for k, m in [(3, 20), (10, 60)]
)
# A theta that no item reaches: look-alike features alone.
NO_BORROWED = {"augment__theta": 1.1}
BORROW: Candidates = ({}, NO_BORROWED, FEW, MANY)
# What does not filter has no theta: the fourth choice is a number of donors, or of items, instead.
SEVERAL: Candidates = (
    {"augment__n_neighbors": 2},
    FEW,
    MANY,
    {"augment__n_neighbors": 5, "augment__max_borrowed": 60},
)
ONE: Candidates = _each("augment__max_borrowed", 5, 20, 60)
STRATEGIES = {"most-similar": ONE, "kth": SEVERAL, "dp": BORROW}
LIGHT = {"rewrite__crop": 0.6, "rewrite__mask": 0.3, "rewrite__reorder": 0.6}
LOW = {"rewrite__users": "low_active"}
EDIT: Candidates = ({}, LIGHT, LOW, {**LIGHT, **LOW})
PREPEND = (*_each("rewrite__n_items", 3, 30), LOW)
# Rows that were made longer would tell the activity feature what is not true when predicting.
REWRITTEN = {"ctr__activity_feature": False}
# The whole pipeline, as it is by default: DIN reads item factors, and the activity.
# What `RandomUsers` makes random is the user embedding.
BY_EMBEDDING = {"augment__user_representation": "embedding"}
# Donors are found by item features, which an aligner leaves as they are: what changes the
# aligned space is measured where items are compared in that space.
IN_ALIGNED_SPACE = {"augment__item_representation": "embedding"}
ALL_FEATURES = ["text", "image", "factors"]
WHOLE_DIN = {"ctr__item_features": "auto", "ctr__activity_feature": True}

# Content is for retrieval alone: DIN reads ids, like the paper's, and the activity. Not as
# printed: there are look-alike features, too. Unlike the default, it always borrows, so that what
# is borrowed can be compared.
RETRIEVAL = Method(
    "MARS with DIN on ids",
    aligned=True,
    borrows=True,
    vectors=False,
    fixed={"ctr__activity_feature": True, "ctr__borrowed": "separate"},
    candidates=BORROW,
)
ALIGNED_SPACE = replace(
    RETRIEVAL,
    label="MARS with DIN on ids, donors in the aligned space",
    fixed={**RETRIEVAL.fixed, **IN_ALIGNED_SPACE},
)
MARS = Method("default pipeline", aligned=True, borrows=True, fixed=WHOLE_DIN, candidates=BORROW)
# MARS as printed in the paper: no parameter is the default's. How long DIN trains is not printed,
# and the same for all methods.
PRINTED = Method(
    "MARS as printed",
    aligned=True,
    borrows=True,
    vectors=False,
    fixed={k: v for k, v in PAPER.items() if k.startswith(("align__", "augment__", "ctr__"))},
    candidates=({}, {"augment__theta": 0.5}, {"augment__theta": 0.9}, {"align__lam": 0.01}),
)


def _changed(like: str, label: str, change: Settings) -> Method:
    method = {"retrieval": RETRIEVAL, "aligned-space": ALIGNED_SPACE, "mars": MARS}[like]
    return replace(method, label=label, fixed={**method.fixed, **change}, like=like)


# Each changes one setting of the MARS that it is `like`.
ABLATIONS = {
    "no-text": _changed("aligned-space", "without text", {"align__modalities": ["image"]}),
    "no-image": _changed("aligned-space", "without image", {"align__modalities": ["text"]}),
    "no-stein": _changed("aligned-space", "without Stein", {"align__beta": 0.0}),
    "paper-sign": _changed(
        "aligned-space", "entropy with the printed sign", {"align__entropy": "paper"}
    ),
    "no-factors": _changed("aligned-space", "space without item factors", {"align__n_factors": 0}),
    "eq-13": _changed("retrieval", "donors by the user embedding (Eq. 13)", BY_EMBEDDING),
    "aligned-features": _changed(
        "mars",
        "default pipeline, the aligned items as features, too",
        {"ctr__item_features": ["factors", "aligned"]},
    ),
}

# The default pipeline without one of its parts, on any data.
PARTS = {
    "no-lookalikes": _changed(
        "mars", "default pipeline, no look-alike features", {"augment__n_lookalikes": 0}
    ),
    "no-items": _changed("mars", "default pipeline, no borrowed items", NO_BORROWED),
    "always": _changed("mars", "default pipeline, always borrows", {"ctr__borrowed": "separate"}),
}

METHODS = {
    "base": Method("DIN", candidates=DIN),
    "random-items": Method("Ran", "RandomItems", fixed=REWRITTEN, candidates=PREPEND),
    "random-sequence": Method("Ran-S", "RandomSequence", fixed=REWRITTEN, candidates=PREPEND),
    "repeat-pad": Method(
        "RepPad",
        "RepeatPad",
        fixed=REWRITTEN,
        candidates=(*_each("rewrite__copies", 1, "max"), LOW),
    ),
    "cmr": Method("CMR", "CropMaskReorder", fixed=REWRITTEN, candidates=EDIT),
    "cmrsi": Method("CMRSI", "CropMaskReorderSubstituteInsert", fixed=REWRITTEN, candidates=EDIT),
    **{
        name.lower(): Method(
            name, auxiliary=name, candidates=_each("ctr__auxiliary__weight", *weights)
        )
        for name, weights in {
            "CL4SRec": (0.01, 0.03, 0.3),
            "CoSeRec": (0.01, 0.03, 0.3),
            "BASRec": (0.1, 0.3, 3.0),
        }.items()
    },
    "rates": Method("rates + logistic regression", rates=True, candidates=({},)),
    "activity": Method(
        "DIN + activity feature", fixed={"ctr__activity_feature": True}, candidates=DIN
    ),
    "content": Method(
        "DIN + all item features",
        aligned=True,
        fixed={"ctr__item_features": ALL_FEATURES, "ctr__activity_feature": True},
        candidates=DIN,
    ),
    "factors": Method(
        "DIN + item factors",
        aligned=True,
        fixed={"ctr__item_features": ["factors"], "ctr__activity_feature": True},
        candidates=DIN,
    ),
    "borrow": replace(
        RETRIEVAL,
        label="MARS with DIN on ids, no look-alike features",
        fixed={**RETRIEVAL.fixed, "augment__n_lookalikes": 0},
    ),
    "retrieval": RETRIEVAL,
    "aligned-space": ALIGNED_SPACE,
    "retrieval-random": replace(
        RETRIEVAL,
        label="MARS with DIN on ids, random donors",
        random_donors=True,
        fixed={**RETRIEVAL.fixed, **BY_EMBEDDING},
    ),
    "random-donors": replace(
        MARS,
        label="random donors",
        random_donors=True,
        fixed={**WHOLE_DIN, **BY_EMBEDDING},
    ),
    "as-printed": PRINTED,
    **PARTS,
    "mars": MARS,
    **ABLATIONS,
    **{
        strategy: replace(
            RETRIEVAL,
            label=strategy,
            fixed={**RETRIEVAL.fixed, "augment__strategy": strategy.replace("-", "_")},
            candidates=candidates,
        )
        for strategy, candidates in STRATEGIES.items()
    },
}

GRIDS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "theta": ("augment__theta", (-1.0, 0.0, 0.1, 0.2, 0.3, 0.5, 0.7)),
    "lambda": ("align__lam", (0.0, 0.001, 0.01, 0.1, 1.0)),
    "beta": ("align__beta", (0.0, 0.01, 0.1, 1.0)),
    "max_borrowed": ("augment__max_borrowed", (5, 10, 20, 60, 200)),
}
ROBUSTNESS = [("noise", a) for a in (0.1, 0.3, 1.0, 3.0)]
ROBUSTNESS += [(m, a) for m in ("text", "image") for a in (0.1, 0.3, 0.5, 0.7, 0.9)]

for _curve, (_parameter, _values) in GRIDS.items():
    _like = "aligned-space" if _parameter.startswith("align__") else "retrieval"
    for _value in _values:
        METHODS[f"{_curve}={_value:g}"] = _changed(
            _like, f"{_curve} = {_value:g}", {_parameter: _value}
        )
for _kind, _amount in ROBUSTNESS:
    METHODS[f"{_kind}={_amount:g}"] = replace(
        _changed(
            "aligned-space",
            f"noise of {_amount:g} sd" if _kind == "noise" else f"{_amount:.0%} lack {_kind}",
            {},
        ),
        corrupt=(_kind, _amount),
    )

ON_IDS = ["retrieval", "retrieval-random", "borrow"]  # DIN on ids, as the paper's
CONTROLS = [
    "rates",
    "activity",
    "factors",
    "content",
    "retrieval",
    "retrieval-random",
    "random-donors",
]
BASELINES = ["random-items", "random-sequence", "repeat-pad", "cmr", "cmrsi"]
BASELINES += ["cl4srec", "coserec", "basrec"]
TABLES = {
    "2": ["base", *BASELINES, *CONTROLS, "borrow", "as-printed", *PARTS, "mars"],
    "3": ["base", *CONTROLS, *ABLATIONS, "as-printed", *PARTS, "mars"],
    "figure-4": ["base", *CONTROLS, *STRATEGIES, "as-printed", "mars"],
    **{
        curve: ["base", *CONTROLS, *(f"{curve}={v:g}" for v in values), "mars"]
        for curve, (_, values) in GRIDS.items()
    },
    "robustness": ["base", *CONTROLS, *(f"{k}={a:g}" for k, a in ROBUSTNESS), "mars"],
    "scarcity": ["base", *CONTROLS, "no-items", "mars"],
}
for _table in ("3", "lambda", "beta", "robustness"):  # beside the methods that are `like` it
    TABLES[_table].insert(1 + len(CONTROLS), "aligned-space")
TITLES = {
    "2": "Table 2: all methods",
    "3": "Table 3: ablations",
    "figure-4": "Figure 4: retrieval strategies (MARS with DIN on ids: filter)",
    "theta": "Curve over theta",
    "lambda": "Curve over lambda",
    "beta": "Curve over beta",
    "max_borrowed": "Curve over the number of borrowed items",
    "robustness": "Noise on features, missing texts and images",
    "scarcity": "Scarcity curve",
}


def methods_of(table: str, setting: str, *, content: bool) -> list[str]:
    """Return the methods of a table that mean something here."""
    names = TABLES[table]
    if setting == "strong":  # the base has the activity feature and text and image already
        names = [n for n in names if n not in ("activity", "content")]
    if not content:
        names = [
            n
            for n in names
            if n not in (*ABLATIONS, "aligned-space", "content")
            and METHODS[n].corrupt is None
            and not n.startswith(("lambda=", "beta="))
        ]
    return names


def split_of(table: str) -> str:
    """Return the split on which a table is measured."""
    return SCARCE if table == "scarcity" else "full"


def base_settings(setting: str) -> Settings:
    """Return what the base of a setting knows: the paper's, or all that helps a base."""
    if setting == "paper":
        return {"ctr__item_features": None, "ctr__activity_feature": False}
    return {"ctr__item_features": "auto", "ctr__activity_feature": True}


def parts(settings: Settings, step: str) -> Settings:
    """Return the settings of one step, by the names that it knows."""
    return {
        k.removeprefix(f"{step}__"): v for k, v in settings.items() if k.startswith(f"{step}__")
    }


def augmentation(name: str) -> Any:
    """Return a new transformer or objective of this name."""
    return getattr(skmars.baselines, name)()
