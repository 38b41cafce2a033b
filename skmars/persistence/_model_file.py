"""Model files: a header line with format, version and checksum, then the model by joblib."""

from __future__ import annotations

import hashlib
import os
from io import BufferedRandom
from pathlib import Path

import joblib

import skmars
from skmars.persistence._model import Model
from skmars.utils._files import check_readable, write_whole

MAGIC, FORMAT = b"skmars-model", 4


def save_model(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model to a file. An earlier file stays as it is unless the new one is complete.

    Parameters
    ----------
    model : Model
    path : str or path-like

    Raises
    ------
    TypeError
        If `model` is no `Model`.
    OSError
        If the file can't be written.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a skmars.persistence.Model, got {type(model).__name__}.")

    def write(file: BufferedRandom) -> None:
        blank = _head(0, "0" * 64)
        file.write(blank)
        joblib.dump(model, file)
        length = file.tell() - len(blank)
        file.seek(len(blank))
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        file.write(_head(length, digest))

    write_whole(Path(path), write)


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read a model from a file. Loading can run code in the file: open only files that you trust.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Model

    Raises
    ------
    OSError
        If there is no such file, or it can't be read.
    ValueError
        If the file is no model, is damaged, or was written by another version of skmars. All this
        is checked before any code in it runs.
    """
    path = Path(path)
    check_readable(path, "`skmars fit ... --out FILE` writes a model.")
    with path.open("rb") as file:
        head = file.readline(300)
        words = head.split(b" ")
        if words[0] != MAGIC or len(words) < 3:
            raise ValueError(
                f"{path} is {'not a model' if head else 'empty'}. Pass the file that `skmars fit "
                "... --out FILE` wrote."
            )
        form, version = (word.decode("ascii", "backslashreplace") for word in words[1:3])
        if (form, version) != (str(FORMAT), skmars.__version__):
            raise ValueError(
                f"{path} is a model of format {form}, written by skmars {version}; skmars "
                f"{skmars.__version__} reads format {FORMAT} of its own version. Fit it again, or "
                "install that version."
            )
        length = os.fstat(file.fileno()).st_size - len(head)
        if head != _head(length, hashlib.file_digest(file, "sha256").hexdigest()):
            raise ValueError(
                f"{path} is damaged or incomplete: what it holds does not match its checksum. Copy "
                "it again from where it was written, or fit it again."
            )
        file.seek(len(head))
        try:
            return joblib.load(file)
        except Exception as error:
            raise ValueError(
                f"{path} can't be opened ({type(error).__name__}: {error}), though it is complete: "
                "an installed package must have changed since. Fit it again."
            ) from error


def _head(length: int, digest: str) -> bytes:
    """Return the header line, which has the same length for all models."""
    version = skmars.__version__.encode()
    return b"%s %d %s %020d %s\n" % (MAGIC, FORMAT, version, length, digest.encode())
