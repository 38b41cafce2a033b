import numpy as np
import pandas as pd
import torch
from skorch import NeuralNetBinaryClassifier
from torch import nn

LENGTH = 50


class DIN(nn.Module):
    def __init__(self, n_items, dim=10):
        super().__init__()
        self.embedding = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.unit = nn.Sequential(nn.Linear(4 * dim, 80), nn.ReLU(), nn.Linear(80, 1))
        self.head = nn.Sequential(nn.Linear(2 * dim, 80), nn.ReLU(), nn.Linear(80, 1))

    def forward(self, target, history):
        q, k = self.embedding(target), self.embedding(history)
        q_ = q[:, None].expand_as(k)
        weight = self.unit(torch.cat([q_, k, q_ - k, q_ * k], dim=-1))
        weight = weight * (history > 0)[..., None]
        interest = (weight * k).sum(dim=1)
        return self.head(torch.cat([q, interest], dim=1)).squeeze(1)


log = pd.read_parquet("log.parquet").sort_values(["user_id", "timestamp"], ignore_index=True)
code, items = pd.factorize(log["item_id"])
code = code + 1
history = np.zeros((len(log), LENGTH), dtype=np.int64)
for rows in log.groupby("user_id").indices.values():
    clicked = []
    for row in rows:
        recent = clicked[-LENGTH:]
        history[row, : len(recent)] = recent
        if log.at[row, "clicked"]:
            clicked.append(code[row])
is_test = (log.groupby("user_id").cumcount(ascending=False) == 0).to_numpy()
X = {"target": code, "history": history}
y = log["clicked"].to_numpy(dtype=np.float32)

net = NeuralNetBinaryClassifier(
    DIN,
    module__n_items=len(items),
    max_epochs=10,
    lr=1e-3,
    optimizer=torch.optim.AdamW,
    batch_size=512,
    verbose=0,
)
net.fit({k: v[~is_test] for k, v in X.items()}, y[~is_test])
probability = net.predict_proba({k: v[is_test] for k, v in X.items()})[:, 1]
