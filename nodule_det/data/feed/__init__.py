"""Training batches from a store: where to cut patches, how to augment them, their targets."""
