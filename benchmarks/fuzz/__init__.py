"""Inputs by the thousand that nobody would write.

    python -m benchmarks.fuzz.door --n 10000 --seed 0             # catalogues, logs, tables
    python -m benchmarks.fuzz.content --n 10000 --seed 0          # contents, digests, caches
    python -m benchmarks.fuzz.command_line --n 10000 --seed 0
    python -m benchmarks.fuzz.saved --n 10000 --seed 0

Each counts what became of its inputs, and fails with an input for which the answer is wrong, an
error is none of ours, or no answer comes in time. The test suite does the same with a few inputs.
"""
