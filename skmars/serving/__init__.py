"""What users did, kept for the rows that are to be scored."""
