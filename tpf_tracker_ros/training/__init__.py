"""Training: the trainer, the stages it runs, their losses and samples."""
