import pandas as pd
from fuxictr.features import FeatureMap
from fuxictr.preprocess import FeatureProcessor, build_dataset
from fuxictr.pytorch.dataloaders import RankDataLoader
from model_zoo import DIN

log = pd.read_parquet("log.parquet").sort_values(["user_id", "timestamp"])
past, histories = {}, []
for row in log.itertuples():
    clicked = past.setdefault(row.user_id, [])
    histories.append("^".join(clicked))
    if row.clicked:
        clicked.append(str(row.item_id))
log["click_history"] = histories
log["user_id"], log["item_id"] = log["user_id"].astype(str), log["item_id"].astype(str)
from_end = log.groupby("user_id").cumcount(ascending=False)
for split, rows in {"train": from_end > 1, "valid": from_end == 1, "test": from_end == 0}.items():
    log.loc[rows, ["clicked", "user_id", "item_id", "click_history"]].to_parquet(f"{split}.parquet")

params = {
    "dataset_id": "mine",
    "data_root": "data",
    "model_root": "checkpoints",
    "gpu": -1,
    "embedding_dim": 10,
    "loss": "binary_crossentropy",
    "optimizer": "adam",
    "task": "binary_classification",
    "metrics": ["AUC"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "verbose": 0,
    "save_best_only": True,
    "din_target_field": ["item_id"],
    "din_sequence_field": ["click_history"],
}
encoder = FeatureProcessor(
    feature_cols=[
        {"name": ["user_id", "item_id"], "active": True, "dtype": "str", "type": "categorical"},
        {
            "name": "click_history",
            "active": True,
            "dtype": "str",
            "type": "sequence",
            "splitter": "^",
            "feature_encoder": None,
            "max_len": 50,
            "share_embedding": "item_id",
            "padding": "pre",
        },
    ],
    label_col={"name": "clicked", "dtype": "float"},
    **params,
)
train, valid, test = build_dataset(
    encoder,
    train_data="train.parquet",
    valid_data="valid.parquet",
    test_data="test.parquet",
    data_format="parquet",
)
feature_map = FeatureMap("mine", "data/mine")
feature_map.load("data/mine/feature_map.json", params)
options = {"batch_size": 512, "data_format": "parquet"}
train_rows, valid_rows = RankDataLoader(
    feature_map, stage="train", train_data=train, valid_data=valid, **options
).make_iterator()
model = DIN(feature_map, **params)
model.fit(train_rows, validation_data=valid_rows, epochs=10)
test_rows = RankDataLoader(
    feature_map, stage="test", test_data=test, shuffle=False, **options
).make_iterator()
probability = model.predict(test_rows)
