"""One HTML page of a study: ``python -m nodule_det.hpo.report study=...``."""
