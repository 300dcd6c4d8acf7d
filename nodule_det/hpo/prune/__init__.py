"""The disk space of finished trials: ``python -m nodule_det.hpo.prune``."""
