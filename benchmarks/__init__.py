"""Benchmarks of bulkseed: ``python -m benchmarks`` lists them. What they found is in ``results/``."""
