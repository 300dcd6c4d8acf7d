"""Correct submissions, drawn at random, from which tests make wrong ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np

from nodule_det.analysis import AuditFinding, audit
from nodule_det.froc import match
from tests.analysis.froc_jobs import as_candidates, as_lesions

Rows = tuple[tuple[str, float, float, float, float], ...]


@dataclass(frozen=True)
class Submission:
    """Rows of (scan, x, y, z, number) and the list of scans."""

    cases: tuple[str, ...]
    lesions: Rows
    candidates: Rows
    excluded: Rows

    def change(self, **columns) -> Submission:
        return replace(self, **{name: tuple(rows) for name, rows in columns.items()})

    def findings(self, **settings) -> dict[str, AuditFinding]:
        """Audit it; the record must be plain JSON."""
        three = as_lesions(self.lesions), as_candidates(self.candidates), as_lesions(self.excluded)
        found = audit(*three, match(self.cases, *three, **settings))
        json.dumps([finding.as_dict() for finding in found], allow_nan=False)
        assert len({finding.code for finding in found}) == len(found)
        return {finding.code: finding for finding in found}

    def warnings(self, **settings) -> set[str]:
        return {c for c, f in self.findings(**settings).items() if f.level.value == "warning"}


def correct(seed: int = 0, n_scans: int = 40) -> Submission:
    """Draw a detector's answer: 3 in 4 scans have lesions, 1 in 8 lesions is missed.

    Lesions have LUNA16's sizes, candidates lie off their centre by up to a third of the radius,
    and each scan has its own number of false positives, a few far from the origin.
    """
    rng = np.random.default_rng(seed)
    cases = tuple(f"1.2.840.{seed}.{1000 + i}" for i in range(n_scans))
    lesions, candidates, excluded = [], [], []
    strength, spread = rng.uniform(1, 3), rng.uniform(0.05, 0.2)
    for case in cases:
        origin = np.array([rng.uniform(-40, 40), rng.uniform(-40, 40), rng.uniform(-400, 0)])

        def place(origin=origin):
            return (origin + rng.uniform((-130, -90, -120), (130, 90, 120))).round(2)

        for _ in range(rng.integers(0, 4)):
            size = float(np.clip(np.exp(rng.normal(1.99, 0.47)), 3, 30))
            center = place()
            lesions.append((case, *center, size))
            if rng.random() < 0.88:
                point = center + rng.normal(0, spread, 3) * size / 2
                candidates.append((case, *point.round(2), float(rng.normal(strength))))
        for _ in range(rng.integers(0, 3)):
            center = place()
            excluded.append((case, *center, -1.0))
            candidates.append((case, *center, float(rng.normal())))
        for _ in range(rng.integers(3, 25)):
            candidates.append((case, *place(), float(rng.normal())))
    order = rng.permutation(len(candidates))
    return Submission(cases, tuple(lesions), tuple(candidates[i] for i in order), tuple(excluded))
