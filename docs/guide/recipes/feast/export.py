"""Write the embeddings of a saved model as tables, for Feast: python export.py MODEL"""

import sys
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

import skmars

model = skmars.load(sys.argv[1])
names = list(model.pipeline.named_steps)
align = model.pipeline[: names.index("align") + 1]
rows = align.transform(model.histories.latest())  # one row a user, as of the log
for kind, ids, vectors in [
    ("user", rows.user_ids, rows.user_embedding),
    ("item", rows.catalog.ids, rows.catalog.embedding),
]:
    columns = {
        f"{kind}_id": pa.array(ids),
        "embedding": pa.array(list(vectors.astype("float32"))),
        "written": pa.array([datetime.now(UTC)] * len(ids)),
    }
    pq.write_table(pa.table(columns), f"repo/{kind}s.parquet")
