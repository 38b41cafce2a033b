"""The trainer: parameters that learn from the stream of events."""
