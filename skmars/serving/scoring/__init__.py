"""From the events of a store to histories, and from a snapshot of a model to answers."""
