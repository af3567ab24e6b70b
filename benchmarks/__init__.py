"""Benchmarks of elefast and its peers; ``python -m benchmarks`` runs them (see README.md)."""
