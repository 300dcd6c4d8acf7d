"""A data set becomes a store: claim, read, prepare and write each scan, then split."""
