"""The parts of `benchmarks.peers`, one file a theme."""
