"""Is the Stein kernel better than simpler alignments?

    python -m benchmarks.alignments
    python -m benchmarks.alignments --data path/to/ml-1m --users 600 --encoders pretrained

The pipeline as printed in the paper (`make_mars("paper")`: donors and items are compared in the
aligned space, one donor, no look-alike features, DIN on ids), with one aligner after another. All
have the same modality features and the same width:

stein        SteinAligner: the network, trained on clicks and the Stein kernel, entropy maximised
infonce      the same network with InfoNCE in the place of the Stein kernel
clicks       the same network without any alignment loss (`beta=0`)
cca          LinearAligner: canonical variates of text and image
procrustes   LinearAligner: images rotated to the texts
mean         LinearAligner: unit vectors of text and image, not aligned

The network is without item factors (`n_factors=0`), which the paper does not have. No setting was
searched for. For each aligner, mean over the seeds:

alignment, uniformity, effective rank   of the modality embeddings, see `skmars.metrics`
trust, continuity, rank corr.           what the item embedding keeps of the similarities within
                                        text and image (mean of both), see `modality_preservation`
recall@1                                share of texts whose nearest image is their own
look-alikes                             share of donors of the user's own planted group
AUC, AUC low, log loss                  of the test rows, each user's last impression; low are the
                                        30 % with the shortest histories in the training rows

One line of JSON a fit is appended to the output; what is there is not done again. Use a new output
after a change of the code.
"""

from __future__ import annotations

import argparse
import json
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.cells import auc_and_log_loss, measured
from benchmarks.measure import threads
from benchmarks.movielens import real_encoders, settings_of
from benchmarks.paper.data import read
from benchmarks.paper.markdown import number, table
from benchmarks.planted import low_active, same_group
from benchmarks.prepare import prepared
from skmars import Impressions, MultimodalEncoder, SteinAligner, leave_last_out, make_mars
from skmars.alignment import LinearAligner, modality_preservation
from skmars.datasets import make_multimodal_ctr
from skmars.metrics import retrieval_recall_at_k

ALIGNERS: dict[str, dict[str, Any]] = {
    "stein": {},
    "infonce": {"alignment": "infonce"},
    "clicks": {"beta": 0.0},
    "cca": {"method": "cca"},
    "procrustes": {"method": "procrustes"},
    "mean": {"method": "mean"},
}
# Parameters that only the other kind of aligner has, of the network and of the linear ones.
_NETWORK, _LINEAR = (
    {f"align__{name}" for name in kind().get_params()} for kind in (SteinAligner, LinearAligner)
)
OTHERS = (_LINEAR - _NETWORK, _NETWORK - _LINEAR)
COLUMNS = {
    "alignment": "alignment",
    "uniformity": "uniformity",
    "effective_rank": "effective rank",
    "trustworthiness": "trust",
    "continuity": "continuity",
    "rank_correlation": "rank corr.",
    "recall": "recall@1",
    "same_group": "look-alikes",
    "auc": "AUC",
    "auc_low": "AUC low",
    "log_loss": "log loss",
}
VIEWS = ["text", "image"]


@lru_cache(1)
def rows_of(
    data: str | None, users: int | None, encoders: str, world: str, seed: int
) -> tuple[tuple[Impressions, ...], tuple[np.ndarray, ...], np.ndarray, Any]:
    """Return encoded training and test rows, their clicks, who is low-active, planted groups."""
    group = None
    if data is None:
        X, y, truth = make_multimodal_ctr(
            users or 500, **json.loads(world), random_state=seed, return_truth=True
        )
        group = truth.group
    else:
        source = read("ml-1m", Path(data), "paper", users, seed)
        X, y = source.X, source.y
    train, _, test = leave_last_out(X)
    encoder = MultimodalEncoder(real_encoders() if encoders == "pretrained" else None)
    encoded = prepared(encoder, (X[train], X[test]))
    return encoded, (y[train], y[test]), low_active(X, train)[X.user[test]], group


def run(
    data: str | None,
    users: int | None,
    encoders: str,
    world: dict[str, Any],
    settings: dict[str, Any],
    seed: int,
    name: str,
) -> dict[str, Any]:
    """Fit the pipeline with one aligner, and measure its space and its predictions."""
    encoded, (y, y_test), low, group = rows_of(data, users, encoders, json.dumps(world), seed)
    linear = "method" in ALIGNERS[name]
    network = {"id_dim": 32, "n_factors": 0}
    given = {"n_components": 64, **({} if linear else network), **ALIGNERS[name]}
    aligner = (LinearAligner if linear else SteinAligner)(
        **{**given, "modalities": VIEWS, "random_state": seed}
    )
    mars = make_mars("paper", encode="passthrough", align=aligner, random_state=seed)
    mars.set_params(**{k: v for k, v in settings.items() if k not in OTHERS[linear]})
    augmented = prepared(mars[:-1], encoded, y)
    probability = mars[-1].fit(augmented[0], y).predict_proba(augmented[1])[:, 1]
    fitted, catalog = mars["align"], augmented[1].catalog
    parts = fitted.encoder_.embed_modalities(encoded[0].catalog)
    both = ~np.any([catalog.missing[view] for view in VIEWS], axis=0)
    kept = modality_preservation(catalog, random_state=0).set_index("modality").loc[VIEWS]
    found = auc_and_log_loss(y_test, probability)
    found["auc_low"] = float(roc_auc_score(y_test[low], probability[low]))
    found |= {key: float(getattr(fitted, f"{key}_")) for key in list(COLUMNS)[:3]}
    found |= {key: float(kept[key].mean()) for key in list(COLUMNS)[3:6]}
    found["recall"] = float(retrieval_recall_at_k(*(parts[view][both] for view in VIEWS)))
    if group is not None:
        found["same_group"] = same_group(augmented, group)
    return found


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of MovieLens-1M; without it, planted look-alikes")
    parser.add_argument("--users", type=int, help="so many users only")
    parser.add_argument("--encoders", choices=["offline", "pretrained"], default="offline")
    parser.add_argument("--aligners", nargs="+", choices=ALIGNERS, default=list(ALIGNERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--make", nargs="*", default=[], help="parameter=value of the generator")
    parser.add_argument(
        "--set", nargs="*", default=[], help="step__parameter=value, for all that have it"
    )
    parser.add_argument("--output", type=Path, default=Path("alignments.jsonl"))
    arguments = parser.parse_args()
    cells = [
        {
            "data": arguments.data,
            "users": arguments.users,
            "encoders": arguments.encoders,
            "world": settings_of(arguments.make),
            "settings": settings_of(arguments.set),
            "seed": seed,
            "name": name,
        }
        for seed, name in product(arguments.seeds, arguments.aligners)
    ]
    with threads(1):
        results = measured(arguments.output, cells, run)
    lines = []
    for name in arguments.aligners:
        of_name = [found for found in results if found["cell"]["name"] == name]
        means = [np.mean([found.get(key, np.nan) for found in of_name]) for key in COLUMNS]
        digits = [3 if key not in ("effective_rank",) else 1 for key in COLUMNS]
        lines.append([name, *(number(float(m), d) for m, d in zip(means, digits))])
    print(table(["aligner", *COLUMNS.values()], lines))


if __name__ == "__main__":
    main()
