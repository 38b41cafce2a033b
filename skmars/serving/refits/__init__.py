"""Fit the whole model of a deployment anew, from all events of its store."""
