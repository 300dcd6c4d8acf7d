"""``python -m nodule_det.hpo.prune`` frees the disk space of finished trials."""
