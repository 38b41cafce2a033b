"""A fitted pipeline and the histories of its users as a file, and back."""
