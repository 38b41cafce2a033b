"""How long skmars takes, and how much memory, from one commit to the next (asv)."""
