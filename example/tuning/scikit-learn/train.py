"""Tune a random forest of scikit-learn: cross-validated accuracy, with its standard error.

The number of nodes is reported as well, so that a study can limit the size of the model.

Run as a study from the root of the repository (docs/tune-your-own-program.md):

    python -m nodule_det.hpo study=studies/forest objective=accuracy \
        'command=[python,example/tuning/scikit-learn/train.py]' \
        search_space=example/tuning/scikit-learn/space.yaml workers=2 trials=20 \
        'constraints=[{name: nodes, max: 500}]'
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

given = dict(word.split("=", 1) for word in sys.argv[1:])
folder = Path(given["run_dir"])
x, y = load_wine(return_X_y=True)

for epoch in (1, 2, 3):  # more trees in each
    forest = RandomForestClassifier(
        n_estimators=epoch * int(given["trees"]),
        max_depth=int(given["depth"]),
        max_features=float(given["features"]),
        random_state=0,
    )
    scores = cross_val_score(forest, x, y, cv=3)
    result = {
        "accuracy": scores.mean(),
        "accuracy_se": scores.std(ddof=1) / np.sqrt(len(scores)),
        "nodes": sum(tree.tree_.node_count for tree in forest.fit(x, y)),
    }
    with open(folder / "metrics.jsonl", "a") as f:  # a curve, for the model and the report
        f.write(json.dumps({"kind": "validation", "epoch": epoch, **result}) + "\n")

(folder / "result.json").write_text(json.dumps({"status": "complete", **result}))
