"""Samples for training: the synthetic world and datasets on disk."""
