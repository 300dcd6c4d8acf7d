"""From a study to a model: ``python -m nodule_det.hpo.finish study=...``."""
