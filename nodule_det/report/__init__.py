"""One HTML page of a run: ``python -m nodule_det.report run=...``."""
