"""Synthetic data for language models: generate, filter, curate, distil, with every row accounted for."""

__version__ = "0.1.0"
