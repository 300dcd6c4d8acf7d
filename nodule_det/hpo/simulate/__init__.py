"""Simulated trainings under a virtual clock: ``python -m nodule_det.hpo.simulate``."""
