"""Foray: post-training excursions from pre-training checkpoints, measured with pass@k."""

__version__ = "0.1.0"
