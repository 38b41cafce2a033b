"""Lets `python -m skmars` do what `skmars` does."""

from __future__ import annotations

import sys

from skmars.cli import main

if __name__ == "__main__":
    sys.exit(main())
