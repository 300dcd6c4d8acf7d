"""The trial with the highest expected value, stored in a small file beside the journal.

    Study ──expect()──▶ Expected ──save_expected()──▶ STUDY/expected.json ──load_expected()──▶

The largest observed value is partly luck.  The posterior mean uses all trials, so its best trial is
the better choice.  Only ``expect`` fits a model and loads torch.  Commands that show a study read
the file, which identifies the trials it was computed from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.config.hpo import Failures
from nodule_det.files import write_json
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.training_data import training_data
from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import Trial
from nodule_det.untrusted import parse_object, read_bytes

MIN_VALUES = 5
"""Number of values below which a model shows little more than its priors."""
FILE_NAME = "expected.json"
MAX_BYTES = 10_000


class Model(Protocol):
    """The part of a surrogate that is used here."""

    def predict(self, features: FloatArray, /) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation, (c,) each, at points (c, d)."""


@dataclass(frozen=True)
class Expected:
    """The completed trial with the highest posterior mean."""

    trial: int
    mean: float
    """Posterior mean in units of the objective, larger is better."""
    sd: float
    """Standard deviation of the mean, without the noise of a training."""


def expect(study: Study) -> Expected | None:
    """Fit the model to a study; None if fewer than ``MIN_VALUES`` trials have a value."""
    return next(iter(rank(study)), None)


def rank(study: Study) -> list[Expected]:
    """Fit the model, and return the completed trials by descending posterior mean.

    Empty if fewer than ``MIN_VALUES`` trials have a value.
    """
    complete = [t for t in study.trials if t.value is not None]
    if len(complete) < MIN_VALUES or study.space.dimension == 0:
        return []
    from nodule_det.hpo.model.gp import fit_surrogate  # torch

    features = Features(study.space)
    data = training_data(features, study.trials, _failures(study))
    surrogate = fit_surrogate(data.features, data.standardised(), columns=data.columns)
    return ranking(surrogate, features, complete)


def most_expected(model: Model, features: Features, complete: Sequence[Trial]) -> Expected:
    """Return the completed trial with the highest posterior mean; there must be at least one."""
    return ranking(model, features, complete)[0]


def ranking(model: Model, features: Features, complete: Sequence[Trial]) -> list[Expected]:
    """Return completed trials by descending posterior mean."""
    mean, sd = model.predict(features.matrix([t.params for t in complete]))
    order = np.argsort(-mean, kind="stable")
    return [Expected(complete[i].number, float(mean[i]), float(sd[i])) for i in order]


def save_expected(folder: Path, study: Study, expected: Expected) -> None:
    """Write the expected best trial of a study to its folder."""
    write_json(folder / FILE_NAME, {"made_for": made_for(study), **asdict(expected)})


def load_expected(folder: Path, study: Study) -> Expected | None:
    """Read the expected best trial; None if the file is missing, damaged or out of date."""
    try:
        found = parse_object(read_bytes(folder / FILE_NAME, MAX_BYTES))
        known = {t.number for t in study.trials if t.value is not None}
        if found["made_for"] != made_for(study) or found["trial"] not in known:
            return None
        return Expected(int(found["trial"]), float(found["mean"]), float(found["sd"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _failures(study: Study) -> Failures:
    return study.sessions[-1].failures if study.sessions else Failures.model


def made_for(study: Study) -> str:
    """Return a digest of everything that informs the model."""
    trials = [
        [t.number, t.params, t.state, t.reason, t.value, t.value_se, [asdict(o) for o in t.curve]]
        for t in study.trials
        if not t.pending
    ]
    text = json.dumps([_failures(study).value, trials], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
