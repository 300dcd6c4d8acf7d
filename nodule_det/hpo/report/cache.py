"""The model's results, kept beside the page so that a report of the same journal fits nothing.

    Study ──insight_of()──▶ Insight, from FOLDER/insight.json or else learn()

The file says for which trials, seed and code of the model it was made.  One that is missing,
damaged, or made for others is replaced.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.files import read_sealed, write_sealed
from nodule_det.hpo.model.expected import Expected, made_for
from nodule_det.hpo.report.insight import Importance, Insight, Slice, learn
from nodule_det.hpo.study.study import Study

FILE_NAME = "insight.json"
MAX_BYTES = 10_000_000


def insight_of(study: Study, seed: int, folder: Path) -> Insight | None:
    """Return the model's results; torch is loaded only if they are not in ``folder`` yet."""
    key = _key(study, seed)
    found = _load(folder / FILE_NAME, key, study)
    if found is None:
        found = learn(study, seed)
        if found is not None:
            write_sealed(folder / FILE_NAME, {"made_for": key, **_as_dict(found)})
    return found


def _key(study: Study, seed: int) -> str:
    """Return a digest of all that the results depend on."""
    digest = hashlib.sha256(f"{made_for(study)} {seed}".encode())
    for package in ("nodule_det.hpo.model", "nodule_det.hpo.report"):
        for file in sorted(files(package).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _as_dict(insight: Insight) -> dict[str, Any]:
    return {
        "best": insight.best.number,
        "expected": insight.expected,
        "expected_sd": insight.expected_sd,
        "most_expected": asdict(insight.most_expected),
        "n_values": insight.n_values,
        "slices": [
            {
                "parameter": cut.parameter.name,
                "values": list(cut.values),
                "mean": cut.mean.tolist(),
                "sd": cut.sd.tolist(),
            }
            for cut in insight.slices
        ],
        "importance": [asdict(one) for one in insight.importance],
        "n_models": insight.n_models,
    }


def _load(path: Path, key: str, study: Study) -> Insight | None:
    try:
        content = read_sealed(path, MAX_BYTES)
        if content["made_for"] != key:
            return None
        trials = {trial.number: trial for trial in study.trials}
        parameters = {parameter.name: parameter for parameter in study.space.free}
        return Insight(
            best=trials[content["best"]],
            expected=float(content["expected"]),
            expected_sd=float(content["expected_sd"]),
            most_expected=Expected(**content["most_expected"]),
            n_values=int(content["n_values"]),
            slices=tuple(
                Slice(
                    parameters[cut["parameter"]],
                    tuple(cut["values"]),
                    np.array(cut["mean"], np.float64),
                    np.array(cut["sd"], np.float64),
                )
                for cut in content["slices"]
            ),
            importance=tuple(Importance(**one) for one in content["importance"]),
            n_models=int(content["n_models"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
