"""Benchmarks. Their modules are imported one by one, since those that measure a server do without torch."""
