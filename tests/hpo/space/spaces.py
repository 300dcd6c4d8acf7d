"""A small search space with every kind of condition and prior."""

CONDITIONAL = {
    "parameters": {
        "loss": {"kind": "categorical", "values": ["bce", "focal"], "prior": {"weights": [3, 1]}},
        "gamma": {"kind": "float", "low": 0.5, "high": 5, "when": {"loss": "focal"}},
        "units": {"kind": "int", "low": 1, "high": 1000, "log": True},
        "version": {"kind": "fixed", "value": 2},
        "flip": {"kind": "bool"},
    }
}
