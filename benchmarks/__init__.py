"""Comparisons you can run, with their results beside them. A package of its own: Opacus installs one of this name."""
