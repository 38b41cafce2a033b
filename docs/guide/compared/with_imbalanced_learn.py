import pandas as pd
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

log = pd.read_parquet("log.parquet").sort_values(["user_id", "timestamp"])
past = log.groupby("user_id")["clicked"]
log["n_clicks"] = past.cumsum() - log["clicked"]
log["n_shown"] = past.cumcount()
is_test = log.groupby("user_id").cumcount(ascending=False) == 0
columns = ["user_id", "item_id", "n_clicks", "n_shown"]
model = make_pipeline(
    RandomOverSampler(random_state=0),
    OneHotEncoder(handle_unknown="ignore"),
    LogisticRegression(max_iter=1000),
)
model.fit(log.loc[~is_test, columns], log.loc[~is_test, "clicked"])
probability = model.predict_proba(log.loc[is_test, columns])[:, 1]
