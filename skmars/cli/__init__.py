"""The command `skmars`: from files to predictions."""
