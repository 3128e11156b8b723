"""Benchmarks of bulkseed: ``python -m benchmarks`` lists them. Their results are in ``results/``."""
