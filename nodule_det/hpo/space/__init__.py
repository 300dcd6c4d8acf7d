"""The search space: parameters, constraints and the YAML they are read from."""
