"""What is trained on: the synthetic world and datasets on disk."""
