"""Compare the retrained settings, and choose one by its cross-validated pAUC.

{training: RunFolder} ──cross_validate()──▶ Finalist ──choose()──▶ finish.json, model/, page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.analysis import Froc, compare
from nodule_det.config.hpo_finish import FinishConfig
from nodule_det.crossval.pool import Pooled, matched_of, pool, report, require_results
from nodule_det.data.store import Store
from nodule_det.errors import FrocInputError
from nodule_det.hpo.finish.plan import Contender
from nodule_det.runs import RunFolder


@dataclass(frozen=True)
class Finalist:
    """A setting with its cross-validated results for each seed."""

    contender: Contender
    runs: tuple[RunFolder, ...]
    """All its trainings."""
    pooled: tuple[Pooled, ...]
    froc: tuple[Froc, ...]

    @property
    def number(self) -> int:
        """Its trial in the study."""
        return self.contender.trial.number

    @property
    def pauc(self) -> float:
        """Mean of the pooled pAUC over the seeds."""
        return float(np.mean([froc.pauc for froc in self.froc]))

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each fold whose network has seen scans or patients of it, for any seed."""
        return tuple(dict.fromkeys(line for pooled in self.pooled for line in pooled.warnings))


def cross_validate(
    config: FinishConfig,
    contender: Contender,
    complete: Mapping[str, RunFolder],
    folds: Sequence[int],
    store: Store,
    out: Path,
) -> Finalist:
    """Pool and evaluate the trainings of one setting.

    Raises:
        FrocInputError: If the evaluated folds have no lesion.
        TableError: If the folds of the store have changed since.
    """
    pooled, frocs, runs = [], [], []
    folders = [out / "settings" / f"trial{contender.trial.number}-seed{s}" for s in config.seeds]
    for seed, folder in zip(config.seeds, folders, strict=True):
        of_fold = {fold: complete[contender.training(seed, fold)] for fold in folds}
        require_results(of_fold, config.selection, store)
        folder.mkdir(parents=True, exist_ok=True)
        pooled.append(pool(folder, of_fold, config.selection))
        frocs.append(report(folder, pooled[-1], config.bootstrap).froc)
        runs += list(of_fold.values())
    if any(froc.pauc is None for froc in frocs):
        raise FrocInputError(
            "the evaluated folds have no lesion, so their pAUC is undefined; evaluate more folds"
        )
    return Finalist(contender, tuple(runs), tuple(pooled), tuple(frocs))


def choose(config: FinishConfig, finalists: Sequence[Finalist]) -> dict[str, Any]:
    """Choose the setting with the highest mean pAUC, and compare the others with it.

    Args:
        config: Numbers of resamples and permutations.
        finalists: The retrained settings.

    Returns:
        The content of ``finish.json``.
    """
    winner = max(finalists, key=lambda f: f.pauc)
    lucky = max(finalists, key=lambda f: f.contender.trial.value or 0.0).number
    return {
        "chosen": winner.number,
        "selection": config.selection.value,
        "seeds": list(config.seeds),
        "excluded": list(config.exclude),
        "settings": [_row(config, finalist, winner, lucky) for finalist in finalists],
    }


def _row(config: FinishConfig, finalist: Finalist, winner: Finalist, lucky: int) -> dict[str, Any]:
    trial, contender = finalist.contender.trial, finalist.contender
    row: dict[str, Any] = {
        "trial": trial.number,
        "params": dict(trial.params),
        "observed": trial.value,
        "observed_se": trial.value_se,
        "largest_observed": trial.number == lucky,
        "expected": contender.expected,
        "expected_sd": contender.expected_sd,
        "pauc": finalist.pauc,
        "pauc_of_seeds": [froc.pauc for froc in finalist.froc],
        "pauc_interval": finalist.froc[0].pauc_interval,
        "cpm": finalist.froc[0].cpm,
        "n_scans": finalist.froc[0].n_scans,
        "n_lesions": finalist.froc[0].n_lesions,
        "few_scans": finalist.froc[0].few_scans,
        "optimism": None if trial.value is None else trial.value - finalist.pauc,
        "chosen": finalist is winner,
    }
    if finalist is not winner:
        (first, patients), (second, _) = (matched_of(f.pooled[0]) for f in (winner, finalist))
        difference = compare(
            first,
            second,
            bootstrap=config.bootstrap,
            permutations=config.permutations,
            patients=patients,
        ).pauc
        row["difference"] = difference.difference
        row["difference_interval"] = list(difference.interval)
        row["p_value"] = difference.p_value
    return row
