"""The same detector on parts of the lesions: small and large ones, solid ones and others.

    Matched + a label per lesion ──analyse_strata()──▶ label -> Froc

Only lesions can be grouped: a false positive has no size or texture of its own.  So all strata
share all false positives, and the curve of a stratum is the share of *its* lesions that is found at
the false positives of *the detector*.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from nodule_det.analysis.figures import Froc, analyse
from nodule_det.analysis.interval import Interval
from nodule_det.arrays import FloatArray, IntArray
from nodule_det.errors import FrocInputError
from nodule_det.froc import UPPER, Matched
from nodule_det.progress import counted

DIAMETER_EDGES_MM = (6.0, 8.0, 15.0)
"""Sizes at which Lung-RADS changes its advice for a solid nodule."""

MOST_STRATA = 50
"""More labels than this are measurements, not groups."""


def diameter_labels(
    diameter_mm: FloatArray, edges_mm: Sequence[float] = DIAMETER_EDGES_MM
) -> list[str]:
    """Name the size of each lesion; a diameter on an edge belongs to the larger size.

    Example:
        >>> diameter_labels(np.array([5.9, 6.0, 20.0]))
        ['below 6 mm', '6 to 8 mm', '15 mm and more']
    """
    between = [f"{low:g} to {high:g} mm" for low, high in pairwise(edges_mm)]
    names = [f"below {edges_mm[0]:g} mm", *between, f"{edges_mm[-1]:g} mm and more"]
    return [names[i] for i in np.searchsorted(edges_mm, diameter_mm, side="right")]


def analyse_strata(
    matched: Matched,
    labels: Sequence[str],
    *,
    upper: float = UPPER,
    bootstrap: int = 1000,
    seed: int = 0,
    interval: Interval | str = Interval.gamma,
    patients: Mapping[str, str] | None = None,
) -> dict[str, Froc]:
    """Compute all figures for each group of lesions.

    Args:
        matched: What the candidates hit.
        labels: (n_lesions,) group of each lesion of ``matched``; an empty one is named "none".
        upper: False positives per scan up to which the area is taken.
        bootstrap: Resamples of all scans for every group.
        seed: Of the resamples.
        interval: Kind of interval.
        patients: Patient of every scan, where patients have several.

    Returns:
        Figures by group, by rising size where groups are those of :func:`diameter_labels`, else in
        the order of the groups' first lesions.

    Raises:
        FrocInputError: If there is not one label per lesion, or too many different ones.
    """
    if len(labels) != matched.n_lesions:
        raise FrocInputError(
            f"expected a label for each of {counted(matched.n_lesions, 'lesion')}, got "
            f"{len(labels)}"
        )
    names = np.array([label or "none" for label in labels], np.str_)
    groups = list(dict.fromkeys(names.tolist()))
    if len(groups) > MOST_STRATA:
        raise FrocInputError(
            f"the lesions have {len(groups)} different labels, such as {groups[0]!r}: strata are "
            f"groups, at most {MOST_STRATA}"
        )
    return {
        group: analyse(
            keep_lesions(matched, np.flatnonzero(names == group)),
            upper=upper,
            bootstrap=bootstrap,
            seed=seed,
            interval=interval,
            patients=patients,
        )
        for group in sorted(groups, key=_size_rank)
    }


def _size_rank(label: str) -> float:
    """Return the size at which a label of :func:`diameter_labels` starts, 0 for any other label."""
    size = re.fullmatch(r"([\d.]+) (to [\d.]+ mm|mm and more)", label)
    return float(size[1]) if size else 0.0


def keep_lesions(matched: Matched, rows: IntArray) -> Matched:
    """Return the outcome with some lesions only; candidates on the others are ignored."""
    return replace(
        matched,
        lesion_case=matched.lesion_case[rows],
        lesion_row=matched.lesion_row[rows],
        lesion_score=matched.lesion_score[rows],
    )
