"""The tables and figures of the paper on real and synthetic data: see benchmarks/README.md."""
