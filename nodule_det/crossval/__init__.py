"""Cross-validation: ``python -m nodule_det.crossval`` trains every fold and pools the results."""
