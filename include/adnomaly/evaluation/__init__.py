"""Evaluation as a product: the detector and its rivals on worlds of our own making, and on series that others labelled."""
