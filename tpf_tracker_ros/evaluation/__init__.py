"""Sequences on disk, metrics, plots and reports; no torch."""
