"""Lung-nodule detection in chest CT: from scans on disk to a FROC figure, tuned on a cluster."""

__version__ = "0.1.0"
