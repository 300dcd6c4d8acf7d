"""The files to start a study with: ``python -m nodule_det.hpo.init``."""
