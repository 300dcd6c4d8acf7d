"""JAFROC's figure of merit: does a lesion look more suspicious than the worst of a healthy scan?

    Matched ──jafroc()──▶ Jafroc

It is the chance that a random lesion scores higher than the highest false positive of a random
scan without lesions.  A missed lesion, and a scan without a false positive, score minus infinity;
equal scores count half.  Unlike the FROC curve it needs scans without lesions, and says nothing
about how many false positives a scan has below its worst.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nodule_det.analysis.bootstrap import check_resamples, draw_weights
from nodule_det.analysis.interval import logit_interval, standard_error
from nodule_det.arrays import FloatArray, IntArray
from nodule_det.froc import Matched


@dataclass(frozen=True, kw_only=True)
class Jafroc:
    """The figure of merit, None where there is no lesion or no scan without one.

    Attributes:
        figure: In [0, 1].
        se: Its standard error over resampled cases.
        interval: Of 95 %, on the logit scale.
        n_normal: Scans compared with: those without lesions, or all of them.
        reason: Why there is no figure.
    """

    figure: float | None
    se: float | None
    interval: tuple[float, float] | None
    n_normal: int
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def jafroc(
    matched: Matched, *, normal_only: bool = True, bootstrap: int = 1000, seed: int = 0
) -> Jafroc:
    """Compute the figure of merit.

    Args:
        matched: What the candidates hit.
        normal_only: Compare with scans without lesions (JAFROC1 takes all scans).
        bootstrap: Resamples of the cases.
        seed: Of the resamples.

    References:
        Chakraborty and Berbaum (2004), Observer studies involving detection and localization:
        modeling, analysis, and validation, Medical Physics 31(8).
    """
    check_resamples(bootstrap)
    has_lesion = np.bincount(matched.lesion_case, minlength=matched.n_cases) > 0
    normal = np.flatnonzero(~has_lesion) if normal_only else np.arange(matched.n_cases)
    if not len(normal) or not matched.n_lesions:
        what = "lesion" if len(normal) else "scan without lesions"
        return Jafroc(
            figure=None,
            se=None,
            interval=None,
            n_normal=len(normal),
            reason=f"there is no {what} among {matched.n_cases} scans",
        )
    wins = _wins(matched, normal)
    drawn = draw_weights(matched.cases, bootstrap, np.random.default_rng(seed))
    value = float(_weighted(wins, np.ones((1, matched.n_cases)), matched, normal)[0])
    resampled = _weighted(wins, drawn, matched, normal)
    return Jafroc(
        figure=value,
        se=standard_error(resampled),
        interval=logit_interval(value, resampled, matched.n_lesions),
        n_normal=len(normal),
    )


def _wins(matched: Matched, normal: IntArray) -> FloatArray:
    """Return (n_cases, n_normal) lesions of a case that win over each scan, a tie as a half."""
    worst = np.full(matched.n_cases, -np.inf)
    np.maximum.at(worst, matched.fp_case, matched.fp_score)
    scores = worst[normal]
    lesions = np.where(matched.found, matched.lesion_score, -np.inf)
    wins = np.zeros((matched.n_cases, len(normal)))
    for case, score in zip(matched.lesion_case, lesions, strict=True):
        wins[case] += (score > scores) + 0.5 * (score == scores)
    return wins


def _weighted(
    wins: FloatArray, weights: FloatArray, matched: Matched, normal: IntArray
) -> FloatArray:
    """Return the figure under (b, n_cases) weights, without the rows that have no pair."""
    lesions = weights @ np.bincount(matched.lesion_case, minlength=matched.n_cases)
    pairs = lesions * weights[:, normal].sum(axis=1)
    won = ((weights @ wins) * weights[:, normal]).sum(axis=1)
    return np.asarray(won[pairs > 0] / pairs[pairs > 0], np.float64)
