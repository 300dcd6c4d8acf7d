"""Two simulated detectors on simulated scans, as LUNA16's CSV files: for tutorials and trials.

    seed ──write_example()──▶ scans.csv, annotations*.csv, first.csv, second.csv

Scores are logits.  Large lesions score higher than small ones.  The second detector reads the same
scans (its scores are correlated with the first's) and is a little better at small lesions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.tables import ANNOTATION_COLUMNS, CANDIDATE_COLUMNS, SERIES, write_table

LESIONS_PER_SCAN = 1.3
LOG_DIAMETER = (1.99, 0.47)
"""Mean and standard deviation of ln(diameter in mm) in LUNA16's annotations."""
FALSE_POSITIVES_PER_SCAN = 20
EXCLUDED_PER_SCAN = 4
SOLID_SHARE = 0.87
COMMON = 0.7
"""Correlation of the two detectors' scores: they read the same scan."""


@dataclass(frozen=True)
class Example:
    """Paths of the files."""

    scans: Path
    annotations: Path
    excluded: Path
    first: Path
    second: Path


def write_example(folder: Path, *, n_scans: int = 100, seed: int = 0) -> Example:
    """Simulate two detectors on ``n_scans`` scans and write their files.

    The same seed gives the same files.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    files = Example(
        folder / "scans.csv",
        folder / "annotations.csv",
        folder / "annotations_excluded.csv",
        folder / "first.csv",
        folder / "second.csv",
    )
    uids = [f"scan{i:03d}" for i in range(n_scans)]
    lesion_case = np.sort(rng.integers(n_scans, size=round(LESIONS_PER_SCAN * n_scans)))
    lesion_mm = _points(len(lesion_case), rng)
    diameter = np.clip(np.exp(rng.normal(*LOG_DIAMETER, len(lesion_case))), 3.0, 30.0)
    solid = rng.random(len(lesion_case)) < SOLID_SHARE
    excluded_case = rng.integers(n_scans, size=EXCLUDED_PER_SCAN * n_scans)
    excluded_mm = _points(len(excluded_case), rng)
    fp_case = rng.integers(n_scans, size=FALSE_POSITIVES_PER_SCAN * n_scans)
    fp_mm = _points(len(fp_case), rng)

    write_table(files.scans, [SERIES], [[uid] for uid in uids])
    write_table(
        files.annotations,
        (*ANNOTATION_COLUMNS, "texture"),
        [
            (uids[c], *p, d, "solid" if s else "ground-glass")
            for c, p, d, s in zip(
                lesion_case, lesion_mm.tolist(), diameter.tolist(), solid, strict=True
            )
        ],
    )
    write_table(
        files.excluded,
        ANNOTATION_COLUMNS,
        [(uids[c], *p, -1) for c, p in zip(excluded_case, excluded_mm.tolist(), strict=True)],
    )
    case = np.concatenate([lesion_case, excluded_case, fp_case])
    near = lesion_mm + rng.normal(0, 0.1, lesion_mm.shape) * diameter[:, None]
    place = np.concatenate([near, excluded_mm, fp_mm])
    common = rng.normal(size=len(case))
    for path, better in ((files.first, 0.0), (files.second, 0.8)):
        surety = 0.35 * (diameter - 6.0) + 2.0 - 1.5 * ~solid + better * (diameter < 8)
        level = np.concatenate([surety, np.zeros(len(excluded_case)), np.full(len(fp_case), -1.0)])
        own = rng.normal(size=len(case))
        score = level + 1.5 * (np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * own)
        said = score > -2.5
        rows = zip(case[said], place[said].tolist(), score[said].tolist(), strict=True)
        write_table(path, CANDIDATE_COLUMNS, [(uids[c], *p, s) for c, p, s in rows])
    return files


def _points(n: int, rng: np.random.Generator) -> FloatArray:
    """Draw points in a chest of 30 x 20 x 25 cm."""
    return rng.uniform((-150.0, -100.0, -250.0), (150.0, 100.0, 0.0), (n, 3))
