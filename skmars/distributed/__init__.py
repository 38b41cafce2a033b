"""The same functions on a cluster of Ray: scoring, the runner, searches and training."""
