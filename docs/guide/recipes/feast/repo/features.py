from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32

# ValueType.STRING, where ids are strings.
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)


def embeddings(entity: Entity) -> FeatureView:
    """Return the last embedding of each user, or item: Feast keeps the latest row of a key."""
    return FeatureView(
        name=f"{entity.name}_embeddings",
        entities=[entity],
        schema=[Field(name="embedding", dtype=Array(Float32))],
        source=FileSource(path=f"{entity.name}s.parquet", timestamp_field="written"),
        ttl=timedelta(days=2),
    )


users, items = embeddings(user), embeddings(item)
