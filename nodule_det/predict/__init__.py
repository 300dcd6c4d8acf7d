"""Candidates of scans without annotations: ``python -m nodule_det.predict``."""
