import numpy as np
import pandas as pd
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DIN

LENGTH = 50

log = pd.read_parquet("log.parquet").sort_values(["user_id", "timestamp"], ignore_index=True)
item, items = pd.factorize(log["item_id"])
category, categories = pd.factorize(log["category"])
item, category = item + 1, category + 1
past_items = np.zeros((len(log), LENGTH), dtype=np.int64)
past_categories = np.zeros_like(past_items)
lengths = np.zeros(len(log), dtype=np.int64)
for rows in log.groupby("user_id").indices.values():
    clicked = []
    for row in rows:
        recent = clicked[-LENGTH:]
        lengths[row] = len(recent)
        past_items[row, : len(recent)] = item[recent]
        past_categories[row, : len(recent)] = category[recent]
        if log.at[row, "clicked"]:
            clicked.append(row)

sizes = {"item_id": len(items) + 1, "category": len(categories) + 1, "hour": 24}
columns = [SparseFeat(name, size, embedding_dim=10) for name, size in sizes.items()]
columns += [
    VarLenSparseFeat(
        SparseFeat(f"hist_{name}", sizes[name], embedding_dim=10, embedding_name=name),
        maxlen=LENGTH,
        length_name="seq_length",
    )
    for name in ("item_id", "category")
]
X = {
    "item_id": item,
    "category": category,
    "hour": log["hour"].to_numpy(),
    "hist_item_id": past_items,
    "hist_category": past_categories,
    "seq_length": lengths,
}
y = log["clicked"].to_numpy()
from_end = log.groupby("user_id").cumcount(ascending=False).to_numpy()


def part(rows):
    return {name: values[rows] for name, values in X.items()}


model = DIN(columns, ["item_id", "category"], seed=0)
model.compile("adam", "binary_crossentropy", metrics=["auc", "binary_crossentropy"])
model.fit(
    part(from_end > 1),
    y[from_end > 1],
    batch_size=512,
    epochs=10,
    verbose=0,
    validation_data=(part(from_end == 1), y[from_end == 1]),
)
probability = model.predict(part(from_end == 0))[:, 0]
