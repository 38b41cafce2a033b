"""MARS as printed in arXiv 2509.01184, Eq. 3 to 18, and DIN: NumPy, one function an equation.

Written from the equations. Of the code it reads the trained weights alone, which a matrix `W`, a
bias `b` and so on name here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skmars import Impressions, ItemCatalog

Vector = np.ndarray


def weights(module: Any) -> tuple[Vector, Vector]:
    """The matrix and the bias of a linear layer."""
    return module.weight.detach().double().numpy(), module.bias.detach().double().numpy()


def sigmoid(x: Vector) -> Vector:
    return 1 / (1 + np.exp(-x))


def softmax(x: Vector) -> Vector:
    e = np.exp(x - x.max())
    return e / e.sum()


def attention(layer: Any, queries: Vector, memory: Vector) -> Vector:
    """softmax(Q K^T / sqrt(d)) V, of one head, and the output layer."""
    (Wq, bq), (Wkv, bkv), (Wo, bo) = map(weights, (layer.query, layer.key_value, layer.out))
    d = len(bq)
    rows = []
    for x in queries:
        q = Wq @ x + bq
        keys = [Wkv[:d] @ m + bkv[:d] for m in memory]
        values = [Wkv[d:] @ m + bkv[d:] for m in memory]
        share = softmax(np.array([q @ k / np.sqrt(d) for k in keys]))
        rows.append(Wo @ sum(a * v for a, v in zip(share, values)) + bo)
    return np.array(rows)


def layer_norm(layer: Any, x: Vector) -> Vector:
    g, b = weights(layer)
    return np.array([g * (r - r.mean()) / np.sqrt(r.var() + layer.eps) + b for r in x])


class Items:
    """Eq. 3 to 13: what the alignment network makes of items in sequences."""

    def __init__(self, encoder: Any, catalog: ItemCatalog) -> None:
        self.net, self.catalog = encoder.network, catalog
        self.row = {item: 1 + n for n, item in enumerate(encoder.items.ids.tolist())}

    def projection(self, modality: str, code: int) -> Vector:  # Eq. 3
        layer = self.net.projections[list(self.net.modality_sizes).index(modality)]
        W, b = weights(layer)
        mean, spread = layer.mean.double().numpy(), layer.spread.double().numpy()
        return W @ ((self.catalog.features[modality][code] - mean) / spread) + b

    def id(self, code: int) -> Vector:
        table = self.net.id_embedding.weight.detach().double().numpy()
        return table[self.row.get(self.catalog.ids[code].item(), 0)]

    def self_attention(self, codes: Any) -> Vector:  # Eq. 4
        e = np.array([self.id(code) for code in codes])
        return attention(self.net.id_attention, e, e)

    def fused(self, codes: Any) -> Vector:  # Eq. 9, 10: images query texts
        text = np.array([self.projection("text", code) for code in codes])
        image = np.array([self.projection("image", code) for code in codes])
        attended = attention(self.net.fusions[0], image, text)
        return layer_norm(self.net.fusion_norms[0], image + attended)

    def multimodal(self, codes: Any) -> Vector:  # Eq. 11: emb_item^mm of each position
        return attention(self.net.id_fusion, self.fused(codes), self.self_attention(codes))

    def score(self, history: Any, target: int) -> float:  # Eq. 12
        window = [*history][max(0, len(history) - (self.net.max_length - 1)) :]
        x = self.multimodal([*window, target])[-1]
        (W1, b1), (W2, b2) = weights(self.net.feed_forward[0]), weights(self.net.feed_forward[2])
        return float((W2 @ gelu(W1 @ x + b1) + b2)[0])

    def user(self, history: Any) -> Vector:  # Eq. 13
        window = [*history][-self.net.max_length :]
        if not window:
            return np.zeros(self.net.n_components)
        return self.multimodal(window).mean(axis=0)

    def item(self, code: int) -> Vector:  # an item in a sequence of its own
        return self.multimodal([code])[0]


def gelu(x: Vector) -> Vector:
    from scipy.stats import norm

    return x * norm.cdf(x)


# --- the loss ------------------------------------------------------------------------------------


def bandwidth(text: Vector, image: Vector) -> float:
    """The lower median of all distances between a text and an image."""
    distances = sorted(float(np.linalg.norm(t - v)) for t in text for v in image)
    return distances[(len(distances) - 1) // 2]


def kernel(a: Vector, b: Vector, gamma: float) -> float:
    return float(np.exp(-np.sum((a - b) ** 2) / (2 * gamma**2)))


def l_align(text: Vector, image: Vector, gamma: float) -> float:  # Eq. 5
    return float(np.mean([kernel(t, v, gamma) for t, v in zip(text, image)]))


def score_estimate(x: Vector, gamma: float, eta: float) -> Vector:  # Eq. 6
    n = len(x)
    K = np.array([[kernel(a, b, gamma) for b in x] for a in x])
    gradient = np.zeros_like(x)
    for i in range(n):
        for j in range(n):
            gradient[i] += -(x[j] - x[i]) / gamma**2 * K[i, j]
    return -np.linalg.solve(K + eta * np.eye(n), gradient)


def l_entropy(x: Vector, gamma: float, eta: float) -> float:  # Eq. 7
    s = score_estimate(x, gamma, eta)
    return -float(np.mean([s[i] @ x[i] for i in range(len(x))]))


def l_stein(text: Vector, image: Vector, lam: float, eta: float) -> float:  # Eq. 8, as printed
    gamma = bandwidth(text, image)
    entropy = (l_entropy(text, gamma, eta) + l_entropy(image, gamma, eta)) / 2
    return -l_align(text, image, gamma) + lam * entropy


def l_ctr(scores: Any, clicks: Any) -> float:
    p = sigmoid(np.asarray(scores))
    return -float(np.mean([np.log(q) if y else np.log(1 - q) for q, y in zip(p, clicks)]))


# --- retrieval -----------------------------------------------------------------------------------


def cosine(a: Vector, b: Vector) -> float:
    if not a.any() or not b.any():
        return 0.0
    return round(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), 6)


def history(X: Impressions, row: int) -> list[int]:
    return X.history.row(row).tolist()


class Retrieval:
    """Eq. 15 to 18: `users` has a vector of each row of `X`, `items` of each code."""

    def __init__(self, X: Impressions, users: Vector, items: Vector, theta: float) -> None:
        self.items, self.theta, self.max_length = items, theta, 200
        longest: dict[Any, int] = {}
        for row in range(len(X)):
            best = longest.get(X.user_ids[row])
            if best is None or X.history.length[row] > X.history.length[best]:
                longest[X.user_ids[row]] = row
        activity = [int(X.history.length[row]) for row in longest.values()]
        self.low, high = np.quantile(activity, [0.3, 0.7])
        self.donors = []
        for user in sorted(longest):
            row = longest[user]
            n = X.history.length[row]
            if n >= high and n > self.low:
                times = None if X.history.time is None else X.history.time[span(X, row)]
                self.donors.append((user, users[row], history(X, row), times))

    def nearest(self, vector: Vector, time: Any, asked: Any) -> Any:  # Eq. 15
        best, best_cosine = None, -2.0
        for donor in self.donors:
            user, theirs, _, times = donor
            if not asked(user) or (times is not None and not (times < time).any()):
                continue
            c = cosine(vector, theirs)
            if c > best_cosine:
                best, best_cosine = donor, c
        return best, best_cosine

    def borrow(self, X: Impressions, row: int, vector: Vector, asked: Any) -> list[Any]:
        """What a row borrows: item, donor, s_i and the cosine of Eq. 15."""
        own = history(X, row)
        if len(own) > self.low or not vector.any():
            return []
        time = None if X.time is None else X.time[row]
        donor, c = self.nearest(vector, time, asked)
        if donor is None:
            return []
        user, _, events, times = donor
        borrowed = []
        for k, item in enumerate(events):
            if times is not None and not times[k] < time:
                continue
            s = cosine(vector, self.items[item])  # Eq. 16
            if s >= self.theta:  # Eq. 17
                borrowed.append((item, user, s, c))
        room = self.max_length - len(own)
        return borrowed[max(0, len(borrowed) - room) :]


def span(X: Impressions, row: int) -> slice:
    return slice(X.history.start[row], X.history.start[row] + X.history.length[row])


def concatenated(borrowed: list[Any], own: list[int]) -> list[int]:  # Eq. 18
    return [item for item, *_ in borrowed] + own


# --- DIN -----------------------------------------------------------------------------------------


def dice(layer: Any, x: Vector) -> Vector:
    mean, var = (v.double().numpy() for v in (layer.running_mean, layer.running_var))
    alpha = layer.alpha.detach().double().numpy()
    p = sigmoid((x - mean) / np.sqrt(var + layer.eps))
    return p * x + (1 - p) * alpha * x


def perceptron(module: Any, x: Vector) -> float:
    for layer, activation in zip(module.layers, module.activations):
        W, b = weights(layer)
        x = dice(activation, W @ x + b)
    W, b = weights(module.output)
    return float((W @ x + b)[0])


def din_logit(din: Any, sequence: list[Any], target: Any) -> float:
    """DIN on ids (KDD 2018, Eq. 3), its attention as it comes; ids of the sequence and the target.

    The logit's offset and scale (of its calibration on held-out rows) are read as weights, too.
    """
    net = din._network
    table = net.items.weight.detach().double().numpy()
    row = {item: 1 + n for n, item in enumerate(din.item_ids_.tolist())}
    q = table[row.get(target, 0)]
    interest = np.zeros(len(q))
    for item in sequence[-din.max_length :]:
        k = table[row.get(item, 0)]
        interest += perceptron(net.interest.unit, np.concatenate([q, k, q - k, q * k])) * k
    offset, scale = net.fusion.double().numpy()
    return offset + scale * perceptron(net.head, np.concatenate([interest, q, interest * q]))
