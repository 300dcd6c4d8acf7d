"""The surrogate: training data, encoding, Gaussian process, acquisition, feasibility and cost."""
