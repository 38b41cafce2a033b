"""Bring a log into a store, and make the pool of donors of all its events."""
