"""A trial as a training job: its command line, its files and its outcome."""
