"""Random checkpoints of the real layout, for tests and benchmarks."""
