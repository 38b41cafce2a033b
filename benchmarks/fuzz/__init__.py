"""Long random tests: `python -m benchmarks.fuzz.NAME --n 10000 --seed 0`."""
