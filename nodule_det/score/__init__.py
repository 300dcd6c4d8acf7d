"""Scoring of a model on the test set of a store: ``python -m nodule_det.score``."""
