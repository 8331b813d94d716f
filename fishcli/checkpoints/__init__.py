"""Find, download, verify and load the checkpoints of models."""
