"""Candidates of scans without annotation: ``python -m nodule_det.predict``."""
