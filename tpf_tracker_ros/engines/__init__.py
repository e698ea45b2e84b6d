"""Running a network fast."""
