"""A fitted model in a file, with what is needed to read further tables as its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import joblib
from sklearn.pipeline import Pipeline

import skmars
from skmars.data._log import DEFAULT_TIME
from skmars.serving._histories import UserHistories
from skmars.utils._files import write_whole

MAGIC, FORMAT = b"skmars-model", 2


@dataclass(frozen=True)
class Columns:
    """What the columns of the tables are called, and how labels and histories are meant.

    Attributes
    ----------
    user, item, label : str
    time : str or None
        "timestamp" stands for another name as well, as in `Impressions.from_log`; None says that
        times are not looked at.
    order : str or None
        What orders the events of a user; None where the times do, or else the order of the log.
    title, text, image : str or None
        None stands for the usual name, where there is such a column.
    click_from : float or None
        Labels of at least so much are clicks; None where labels are 0 and 1.
    history : {"all", "positive"}
    duplicates : {"warn", "keep", "drop"}
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str | None = DEFAULT_TIME
    order: str | None = None
    label: str = "clicked"
    title: str | None = None
    text: str | None = None
    image: str | None = None
    click_from: float | None = None
    history: str = "positive"
    duplicates: str = "warn"


@dataclass(frozen=True)
class Model:
    """A fitted pipeline, the columns that it was fitted on, and what the users have done."""

    pipeline: Pipeline
    columns: Columns
    histories: UserHistories
    holdout: str


def save_model(model: Model, path: Path) -> None:
    """Write a line that says what the file is, then the model by joblib."""

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(b"%s %d %s\n" % (MAGIC, FORMAT, skmars.__version__.encode()))
            joblib.dump(model, file)

    write_whole(path, write)


def load_model(path: Path) -> Model:
    """Read a model. Reading a joblib file runs code that is in it: open your own only.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is not there, is no model, of another format, or damaged. What it is, is
        read off its first line, before any code in it runs.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. `skmars fit` writes a model.")
    with path.open("rb") as file:
        head = file.readline(100).split()
        if len(head) != 3 or head[0] != MAGIC:
            raise ValueError(
                f"{path} is not a model. Pass the file that `skmars fit ... --out FILE` wrote."
            )
        if int(head[1]) != FORMAT:
            raise ValueError(
                f"{path} is a model of format {int(head[1])}, written by skmars "
                f"{head[2].decode()}; skmars {skmars.__version__} reads format {FORMAT}. Fit it "
                "again, or install that version."
            )
        try:
            model = joblib.load(file)
        except Exception as error:
            raise ValueError(
                f"{path}, written by skmars {head[2].decode()}, can't be opened with skmars "
                f"{skmars.__version__} ({type(error).__name__}: {error}). It may be damaged, or "
                "an installed package has changed: fit it again."
            ) from error
    assert isinstance(model, Model)
    return model
