"""Inputs by the thousand that nobody would write, against the command line, model files
and the encoder.

    python -m benchmarks.fuzz.command_line --n 10000 --seed 0
    python -m benchmarks.fuzz.model_file --n 10000 --seed 0
    python -m benchmarks.fuzz.content --n 10000 --seed 0

Each counts what became of its inputs, and fails with the smallest input it found for which the
answer is wrong, an error is none of ours, or no answer comes in time. The test suite does the same
with a few inputs.
"""
