"""Jobs of the slow reference, in the columns that the package takes."""

from __future__ import annotations

from functools import cache

import numpy as np

from nodule_det.froc import Candidates, Lesions, Matched, match
from tests import reference_froc as reference


def as_lesions(rows):
    return Lesions(*_columns(rows))


def as_candidates(rows):
    return Candidates(*_columns(rows))


def _columns(rows):
    return (
        np.array([r[0] for r in rows], np.str_),
        np.array([r[1:4] for r in rows], np.float64).reshape(-1, 3),
        np.array([r[4] for r in rows], np.float64),
    )


def match_rows(cases, lesions, detections, excluded, **settings) -> Matched:
    return match(
        cases, as_lesions(lesions), as_candidates(detections), as_lesions(excluded), **settings
    )


@cache
def job(seed: int):
    """Return a random job, what the reference makes of it, and what the package makes of it."""
    made = reference.generate(seed, n_cases=2 + seed % 7, ties=seed % 2 == 0)
    rows = (made["cases"], made["lesions"], made["detections"], made["excluded"])
    return made, reference.match(*rows), match_rows(*rows)


def matched(lesions, fps, n_cases: int = 1) -> Matched:
    """Return the outcome of a detector by (case, score) of lesions (None: missed) and of FPs."""
    missed = np.array([score is None for _, score in lesions], bool)
    rows = np.arange(len(lesions))
    return Matched(
        cases=np.array([f"c{i}" for i in range(n_cases)]),
        lesion_case=np.array([case for case, _ in lesions], np.int64),
        lesion_row=np.where(missed, -1, rows),
        lesion_score=np.array([score or 0.0 for _, score in lesions], np.float64),
        fp_case=np.array([case for case, _ in fps], np.int64),
        fp_score=np.array([score for _, score in fps], np.float64),
        fp_row=len(lesions) + np.arange(len(fps)),
        excluded_row=np.empty(0, np.int64),
        repeated_row=np.empty(0, np.int64),
    )
