"""The default encoder for texts, which needs no download."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from sklearn.utils.validation import check_is_fitted

from skmars.utils._base import DocLinkMixin


class TfidfEncoder(DocLinkMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Encode texts by latent semantic analysis: TF-IDF of words, then a truncated SVD.

    Needs no download. Where texts have no more than `n_components` different words, these are the
    components, and there is no SVD.

    Parameters
    ----------
    n_components : int, default=128
        Length of the vectors; less where there are fewer texts or words.
    max_features : int, default=20000
        How many of the most frequent words to keep.
    random_state : int, RandomState instance or None, default=0
        Seed of the randomised SVD.

    Attributes
    ----------
    vectorizer_ : TfidfVectorizer
    svd_ : TruncatedSVD or None
        None where the words are the components.
    n_components_ : int
        Length of the vectors.

    Examples
    --------
    >>> encoder = TfidfEncoder().fit(["a toy train", "a wooden train", "a cook book"])
    >>> encoder.transform(["a train"]).shape
    (1, 6)
    """

    _at_once = 4096  # least batch size: a call costs more than a text

    _content = "text"  # whatever the modality is called

    def __init__(
        self, n_components: int = 128, *, max_features: int = 20_000, random_state: Any = 0
    ) -> None:
        self.n_components = n_components
        self.max_features = max_features
        self.random_state = random_state

    def fit(self, X: Iterable[str], y: Any = None) -> Self:
        """Learn words and components.

        Parameters
        ----------
        X : iterable of str
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the texts hold no word at all.
        """
        vectorizer = TfidfVectorizer(
            sublinear_tf=True,
            strip_accents="unicode",
            token_pattern=r"(?u)\b\w+\b",
            max_features=self.max_features,
            dtype=np.float32,
        )
        tfidf = vectorizer.fit_transform(X)
        svd, n_components = None, tfidf.shape[1]
        if n_components > self.n_components:
            n_components = min(self.n_components, tfidf.shape[0])
            svd = TruncatedSVD(n_components, random_state=self.random_state).fit(tfidf)
        self.vectorizer_, self.svd_, self.n_components_ = vectorizer, svd, n_components
        return self

    def transform(self, X: Iterable[str]) -> NDArray[np.float32]:
        """Return one unit vector a text, zero where it shares no word with those of `fit`.

        Parameters
        ----------
        X : iterable of str

        Returns
        -------
        ndarray of shape (n_texts, `n_components_`), float32
        """
        check_is_fitted(self)
        tfidf = self.vectorizer_.transform(X)
        vectors = tfidf.toarray() if self.svd_ is None else self.svd_.transform(tfidf)
        return np.asarray(normalize(vectors), dtype=np.float32)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
