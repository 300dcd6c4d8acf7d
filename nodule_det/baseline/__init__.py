"""The blob detector, for comparison with the network: ``python -m nodule_det.baseline``."""
