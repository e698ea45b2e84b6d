"""The player's side of a live run."""
