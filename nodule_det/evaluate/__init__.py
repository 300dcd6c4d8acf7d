"""CSV files -> FROC figures: the command ``python -m nodule_det.evaluate`` and its parts.

candidates, annotations, scans ──reading──▶ Job ──froc──▶ Froc ──words──▶ table, JSON, CSV, pictures
"""
