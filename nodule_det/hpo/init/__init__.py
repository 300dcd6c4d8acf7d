"""``python -m nodule_det.hpo.init`` writes the files to start a study."""
