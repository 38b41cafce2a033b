import pandas as pd

from skmars import DINClassifier, Impressions, leave_last_out

log = pd.read_parquet("log.parquet")
X, y = Impressions.from_log(log, label="clicked")
train, _, test = leave_last_out(X)
din = DINClassifier(random_state=0).fit(X[train], y[train])
probability = din.predict_proba(X[test])[:, 1]
