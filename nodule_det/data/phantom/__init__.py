"""Synthetic chest CTs with known nodules: one (``make.make_scan``) or a data set (``write``)."""
