"""The surrogate: training data, encoding, Gaussian process, acquisition and feasibility."""
