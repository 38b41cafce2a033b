"""Events, item numbers, version pointers and leases, kept durably by LMDB or Redis."""
