"""Patches of a store as training batches: where to cut, how to augment, what to aim at."""
