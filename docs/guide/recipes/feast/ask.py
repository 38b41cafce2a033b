from datetime import UTC, datetime

from feast import FeatureStore

store = FeatureStore("repo")
store.materialize_incremental(datetime.now(UTC))  # after each export
found = store.get_online_features(
    features=["item_embeddings:embedding"], entity_rows=[{"item_id": 7}, {"item_id": 8}]
).to_dict()
