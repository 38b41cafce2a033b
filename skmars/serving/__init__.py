"""From files to predictions: the command line, and the plain functions behind it."""
