"""A study on disk: trials, journal, lock and inbox."""
