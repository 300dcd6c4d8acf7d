"""How the next trial is chosen: random, Sobol or Bayesian."""
