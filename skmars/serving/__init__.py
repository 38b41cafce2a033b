"""What runs in production: a store of events, a scorer, an HTTP service and an offline runner."""
