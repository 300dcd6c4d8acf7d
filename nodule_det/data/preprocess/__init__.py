"""Lung mask and resampling: what happens to a scan between reader and store."""
