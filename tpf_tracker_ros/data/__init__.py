"""Sequences as they lie on disk, and synthetic ones."""
