"""Mistakes that everybody makes once, and what skmars says to them.

`test_mistakes.py` makes each of them; `page` writes them down for the documentation, with the
messages that they really give.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from sklearn.exceptions import NotFittedError

SETUP = """\
import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from skmars import (
    DINClassifier, Impressions, ItemCatalog, MultimodalEncoder,
    SequenceRetrievalAugmenter, SteinAligner, gauc_score, load_movielens_1m,
)

log = pd.DataFrame({
    "user_id": ["ann", "ann", "ann", "bob", "bob", "cid", "cid", "cid"],
    "item_id": [10, 20, 30, 20, 10, 30, 10, 20],
    "timestamp": [1, 2, 3, 1, 5, 2, 4, 6],
    "rating": [5, 2, 4, 4, 1, 3, 5, 2],
    "clicked": [1, 0, 1, 1, 0, 0, 1, 0],
})
items = pd.DataFrame({
    "item_id": [10, 20, 30],
    "title": ["A toy robot", "A wooden train", "A chess set"],
})
catalog = ItemCatalog.from_frame(items)
X, y = Impressions.from_log(log, catalog, label="clicked", history="all")
frame = X.to_frame("pandas")
"""


@dataclass(frozen=True)
class Mistake:
    """A mistake in code, and the error that it gives.

    Attributes
    ----------
    what : str
        What was overlooked, as a heading.
    code : str
        Runs after `SETUP`.
    error : type
        Of the exception.
    words : tuple of str
        What the message says: what was found, where, and the way out.
    instead : str
        The way out, as code.
    installed, absent : str
        A package without (or with) which the mistake can't be made.
    """

    what: str
    code: str
    error: type[Exception]
    words: tuple[str, ...]
    instead: str
    installed: str = ""
    absent: str = ""

    def possible(self) -> bool:
        """Say whether this machine is one where the mistake can be made."""
        if self.absent == "cuda":
            import torch

            return not torch.cuda.is_available()
        if self.absent:
            return find_spec(self.absent) is None
        return not self.installed or find_spec(self.installed) is not None

    def make(self) -> Exception:
        """Run the code and return the exception; AssertionError if there is none."""
        names: dict[str, Any] = {}
        exec(SETUP, names)
        try:
            exec(self.code, names)
        except Exception as error:
            return error
        raise AssertionError(f"no error: {self.what}")


MISTAKES = (
    Mistake(
        "A column has another name",
        'Impressions.from_log(log, catalog, label="liked")',
        ValueError,
        ("log", "no column 'liked'", "'clicked'", "Rename"),
        'Impressions.from_log(log, catalog, label="clicked")',
    ),
    Mistake(
        "A log is no table of impressions",
        "DINClassifier().fit(log, y)",
        ValueError,
        ("X", "no column 'history'", "Impressions.from_log(log)"),
        "DINClassifier().fit(X, y)  # X, y = Impressions.from_log(log, ...)",
    ),
    Mistake(
        "A dict is no table",
        'DINClassifier().fit({"user_id": [1], "item_id": [2], "history": [[3]]}, [1])',
        TypeError,
        ("X is a dict", "pandas.DataFrame(X)", "'history'"),
        'DINClassifier().fit(pd.DataFrame({"user_id": ...}), y)',
    ),
    Mistake(
        "Histories are strings",
        'DINClassifier().fit(frame.assign(history="10 20"), y)',
        TypeError,
        ("column 'history' of X", "must hold a list", "'10 20' at row 0", "into one list"),
        'frame.assign(history=frame["history"].str.split())  # where they come from a CSV file',
    ),
    Mistake(
        "A frame is lazy",
        "import polars as pl\nImpressions.from_log(pl.from_pandas(log).lazy())",
        TypeError,
        ("log is a lazy frame", "log.collect()"),
        "Impressions.from_log(lazy.collect())",
        installed="polars",
    ),
    Mistake(
        "Ratings are not clicks",
        'Impressions.from_log(log, catalog, label="rating")',
        ValueError,
        ("column 'rating' of log", "must be binary", "5 distinct values", "log['rating'] >= 4"),
        'Impressions.from_log(log.assign(liked=log["rating"] >= 4), catalog, label="liked")',
    ),
    Mistake(
        "A label is missing",
        'log["clicked"] = log["clicked"].replace(0, np.nan)\n'
        'Impressions.from_log(log, catalog, label="clicked")',
        ValueError,
        ("column 'clicked' of log", "missing in 4 rows", "row 1", "Drop these rows"),
        'Impressions.from_log(log.dropna(subset="clicked"), catalog, label="clicked")',
    ),
    Mistake(
        "Nobody clicked",
        "DINClassifier().fit(X, np.zeros(len(X)))",
        ValueError,
        ("DINClassifier", "y holds only one class", "0.0", "Add rows of the other class"),
        "DINClassifier().fit(X, y)  # shown and not clicked is needed, too",
    ),
    Mistake(
        "There are more labels than rows",
        "DINClassifier().fit(X[:5], y)",
        ValueError,
        ("X has 5 rows", "y has 8 entries", "same rows"),
        "DINClassifier().fit(X[:5], y[:5])",
    ),
    Mistake(
        "A user id is missing",
        'log.loc[2, "user_id"] = None\nImpressions.from_log(log, catalog)',
        ValueError,
        ("column 'user_id' of log", "1 missing ids", "row 2", "Drop these rows"),
        'Impressions.from_log(log.dropna(subset="user_id"), catalog)',
    ),
    Mistake(
        "Times are words",
        'log["timestamp"] = "1 January"\nImpressions.from_log(log, catalog)',
        TypeError,
        ("column 'timestamp' of log", "numbers or datetimes", "got str", "pandas.to_datetime"),
        'log["timestamp"] = pd.to_datetime(log["timestamp"], format=...)',
    ),
    Mistake(
        "Item ids are numbers here and strings there",
        'Impressions.from_log(log.astype({"item_id": str}), catalog)',
        TypeError,
        ("column 'item_id' of log", "strings", "the catalogue", "integers", ".astype(int)"),
        'Impressions.from_log(log.astype({"item_id": int}), catalog)',
    ),
    Mistake(
        "An item stands in the catalogue twice",
        "ItemCatalog.from_frame(pd.concat([items, items]))",
        ValueError,
        ("ids of the catalogue", "3 of them repeat", "10", "Drop the duplicated items"),
        'ItemCatalog.from_frame(items.drop_duplicates("item_id"))',
    ),
    Mistake(
        "Pictures are not where their paths say",
        'items["image"] = ["robot.jpg", "train.jpg", "chess.jpg"]\n'
        'MultimodalEncoder().fit(ItemCatalog.from_frame(items[["item_id", "image"]]))',
        ValueError,
        ("None of the 3 items", "image", "robot.jpg", "correct"),
        'items["image"] = "/folder/of/pictures/" + items["image"]',
    ),
    Mistake(
        "The aligner has no features to align",
        "SteinAligner().fit(X, y)",
        ValueError,
        ("catalogue of X", "no modality features", "MultimodalEncoder before"),
        "SteinAligner().fit(MultimodalEncoder().fit_transform(X), y)",
    ),
    Mistake(
        "Vectors hold NaN",
        'vectors = {"text": [[0.1, 0.2], [np.nan, 0.3], [0.4, 0.5]]}\n'
        "SteinAligner().fit(X.with_catalog(catalog.with_features(vectors)), y)",
        ValueError,
        ("modality 'text'", "NaN or infinity for 1 items", "20", "missing="),
        'catalog.with_features(vectors, missing={"text": [False, True, False]})',
    ),
    Mistake(
        "A parameter is out of its range",
        "SequenceRetrievalAugmenter(theta=5).fit(X)",
        ValueError,
        ("'theta'", "SequenceRetrievalAugmenter", "in the range [-1.0, 1.1]", "Got 5"),
        "SequenceRetrievalAugmenter(theta=0.5)  # a cosine",
    ),
    Mistake(
        "A grid names a parameter that there is not",
        'mars = Pipeline([("augment", SequenceRetrievalAugmenter()), ("ctr", DINClassifier())])\n'
        'GridSearchCV(mars, {"augment__tetha": [0.1, 0.5]}, cv=2).fit(X, y)',
        ValueError,
        ("'tetha'", "SequenceRetrievalAugmenter", "Valid parameters", "'theta'"),
        'GridSearchCV(mars, {"augment__theta": [0.1, 0.5]})',
    ),
    Mistake(
        "Transform comes before fit",
        "SequenceRetrievalAugmenter().transform(X)",
        NotFittedError,
        ("SequenceRetrievalAugmenter", "not fitted yet", "Call 'fit'"),
        "SequenceRetrievalAugmenter().fit_transform(X)",
    ),
    Mistake(
        "The augmenter gets an array",
        "SequenceRetrievalAugmenter().fit(np.zeros((8, 3)))",
        TypeError,
        ("SequenceRetrievalAugmenter", "ndarray", "'history'", "Impressions.from_log"),
        "SequenceRetrievalAugmenter().fit(X)",
    ),
    Mistake(
        "X has one dimension",
        "DINClassifier().fit(np.arange(8.0), y)",
        ValueError,
        ("Expected 2D array, got 1D array", "reshape"),
        "DINClassifier().fit(np.arange(8.0).reshape(-1, 1), y)",
    ),
    Mistake(
        "A context column of fit is missing in predict",
        "din = DINClassifier(max_iter=1).fit(frame.assign(hour=7), y)\ndin.predict_proba(frame)",
        ValueError,
        ("X lacks the context column 'hour'", "DINClassifier", "'history'", "Add"),
        "din.predict_proba(frame.assign(hour=7))",
    ),
    Mistake(
        "Impressions are asked for a column",
        'X["user_id"]',
        IndexError,
        ("indexed by row", "X.user_ids", "X.to_frame()"),
        "X.user_ids",
    ),
    Mistake(
        "GAUC over one impression a user",
        'gauc_score([1, 0, 1], [0.9, 0.2, 0.4], ["ann", "bob", "cid"])',
        ValueError,
        ("GAUC is undefined", "none of the 3 users", "roc_auc_score"),
        "roc_auc_score([1, 0, 1], [0.9, 0.2, 0.4])",
    ),
    Mistake(
        "There is no GPU",
        'DINClassifier(device="cuda").fit(X, y)',
        RuntimeError,
        ("device='cuda'", "no CUDA device", "device='auto'"),
        'DINClassifier(device="auto").fit(X, y)',
        absent="cuda",
    ),
    Mistake(
        "The package of an encoder is not installed",
        'MultimodalEncoder({"text": "all-MiniLM-L6-v2"}).fit(catalog)',
        ImportError,
        ("needs sentence_transformers", "pip install 'skmars[text]'"),
        "MultimodalEncoder()  # needs no download",
        absent="sentence_transformers",
    ),
    Mistake(
        "A model is not here and can't be downloaded",
        'MultimodalEncoder({"text": "nobody/has-this-model"}).fit(catalog)',
        OSError,
        ("'nobody/has-this-model'", "not found on this machine", "encoders=None"),
        'MultimodalEncoder({"text": "/path/to/the/model"})',
        installed="sentence_transformers",
    ),
    Mistake(
        "MovieLens is somewhere else",
        'load_movielens_1m("downloads")',
        FileNotFoundError,
        ("downloads", "ratings.dat", "unpack ml-1m.zip", "no folder"),
        'load_movielens_1m("downloads/ml-1m")',
    ),
)


def page() -> str:
    """Return the mistakes as a page in reStructuredText, with the messages of this version."""
    title = "Typical mistakes"
    parts = [
        f"{title}\n{'=' * len(title)}\n\nLook up an error message here: each section has a "
        "message; open it for the mistake that gives it, and for what to write\ninstead. All "
        "examples start from these lines:\n\n" + _folded("Imports, a log and a catalogue", SETUP)
    ]
    for mistake in MISTAKES:
        parts.append(f"{mistake.what}\n{'-' * len(mistake.what)}\n")
        if mistake.possible():
            error = mistake.make()
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"
            parts.append(_block("text\n    :class: wrapped", message))
        parts.append(_folded("Mistake, and what to write instead", mistake.code, mistake.instead))
    return "\n".join(parts)


def _folded(title: str, *codes: str) -> str:
    """Write code behind a title that opens it, with the word "Instead" between two of them."""
    inside = "\nInstead:\n\n".join(_block("python", code) for code in codes)
    head = f".. admonition:: {title}\n   :collapsible: closed\n\n"
    return head + textwrap.indent(inside, "   ")


def _block(language: str, text: str) -> str:
    return f".. code-block:: {language}\n\n{textwrap.indent(text.rstrip(), '    ')}\n"
