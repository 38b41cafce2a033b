"""Save a fitted estimator, or a model with its histories, as a folder; and load it."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from sklearn.base import BaseEstimator

from skmars.persistence._model import Model
from skmars.utils._folder import allow, read_folder, write_folder

KIND = "model"

Class = TypeVar("Class", bound=type)


def save(obj: BaseEstimator | Model, path: str | os.PathLike[str]) -> None:
    """Save a fitted estimator, a pipeline or a model as a folder of plain data, without pickle.

    Parameters
    ----------
    obj : estimator, Pipeline or Model
        A `Model` (see `Model.of`) also has the histories and the names of columns, which the
        command line and the service need.
    path : str or path-like
        The folder to be written. What was saved there earlier stays as it is unless the new one is
        complete, and takes its place then.

    Raises
    ------
    TypeError
        If `obj` is something else, or consists of what can't be saved, such as a function or an
        encoder of your own that was not registered (see `register`). The message has the way to it.
    OSError
        If the folder can't be written, holds something else, or is in use: something was made for
        the model that is there (``pools``, ``params``).
    ImportError
        If pyarrow or safetensors is not installed.

    See Also
    --------
    load : Loads it.

    Notes
    -----
    The folder consists of ``arrays.safetensors``, ``strings.arrow`` and ``manifest.json``, whose
    checksum is in ``manifest.sha256``. The optimiser of `DINClassifier` and the state of
    random generators are part of it, so that training goes on as if nothing had happened.
    scikit-learn's callbacks are not, nor the vectors of encoders that are only cached.

    Examples
    --------
    >>> import tempfile
    >>> import skmars
    >>> from skmars import DINClassifier, make_small_shop
    >>> X, y = make_small_shop(n_users=40, random_state=0)
    >>> din = DINClassifier(max_iter=1, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skmars.save(din, f"{folder}/din")
    ...     again = skmars.load(f"{folder}/din")
    >>> bool((again.predict_proba(X) == din.predict_proba(X)).all())
    True
    """
    if not isinstance(obj, BaseEstimator | Model):
        raise TypeError(
            "obj must be an estimator, a pipeline or a skmars.persistence.Model, got "
            f"{type(obj).__name__}."
        )
    write_folder(path, KIND, obj)


def load(path: str | os.PathLike[str]) -> Any:
    """Load what `save` saved. No code that the folder could bring is run.

    Parameters
    ----------
    path : str or path-like
        The folder.

    Returns
    -------
    estimator, Pipeline or Model
        Its arrays are mapped into memory: processes that load the same folder share them.

    Raises
    ------
    OSError
        If there is no such folder, or it can't be read.
    ValueError
        If it holds something else, a bit of it has changed since, a file lacks or is foreign, it
        was saved in another format, or it has an object of a class that is not known (see
        `register`). The message names the file or the class.
    ImportError
        If pyarrow or safetensors is not installed.

    Warns
    -----
    UserWarning
        If scikit-learn, torch or skmars have another version than those that saved it.

    See Also
    --------
    save : Saves it, with an example.
    """
    found = read_folder(path, KIND)
    if not isinstance(found, BaseEstimator | Model):
        raise ValueError(f"{os.fspath(path)} holds a {type(found).__name__}, which is no model.")
    return found


def load_model(path: str | os.PathLike[str]) -> Model:
    """Load a model with its histories, as `load` does; ValueError if it is an estimator alone."""
    found = load(path)
    if not isinstance(found, Model):
        raise ValueError(
            f"{os.fspath(path)} holds a {type(found).__name__} alone, without histories and names "
            "of columns. Save a model with them: "
            "skmars.save(skmars.persistence.Model.of(pipeline, X), path)."
        )
    return found


def register(cls: Class) -> Class:
    """Let objects of a class of your own be saved and loaded, in this process.

    Call it before `save`, and in the process that loads before `load`. An object is made again
    without calling the class: it gets the state that ``__getstate__`` returned (its attributes,
    where the class has none) by ``__setstate__``, or as attributes. The state must consist of
    plain values, containers, arrays, tensors, and objects that can be saved.

    Parameters
    ----------
    cls : class

    Returns
    -------
    class
        The same one: `register` is a decorator, too.

    Raises
    ------
    TypeError
        If `cls` is no class, or inherits from a built-in type such as dict.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator, TransformerMixin
    >>> from skmars.persistence import register
    >>> @register
    ... class Lengths(TransformerMixin, BaseEstimator):
    ...     def fit(self, X, y=None):
    ...         return self
    ...
    ...     def transform(self, X):
    ...         return [[len(text)] for text in X]
    """
    allow(cls)
    return cls
