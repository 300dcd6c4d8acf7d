"""Turn a data set into a store: claim, read, prepare and write each scan, then split."""
