"""Sweeps, training on Ray, records in MLflow and promoted models for ``mixnmatch``."""
