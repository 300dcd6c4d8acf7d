"""Data sets on disk: which scans they hold and what is annotated."""
