"""JAFROC and wAFROC: does a lesion look more suspicious than the worst of a healthy scan?

    Matched ──jafroc(), wafroc()──▶ Jafroc

JAFROC is the chance that a random lesion scores higher than the highest false positive of a random
scan without lesions.  In wAFROC every scan with lesions counts the same, however many it has.  A
missed lesion, and a scan without a false positive, score minus infinity; equal scores count half.
Unlike the FROC curve both need scans without lesions, and neither depends on how many false
positives a scan has below its worst.

References:
    Chakraborty and Berbaum (2004), Observer studies involving detection and localization: modeling,
    analysis, and validation, Medical Physics 31(8).
    Chakraborty and Zhai (2016), On the meaning of the weighted alternative free-response operating
    characteristic figure of merit, Medical Physics 43(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nodule_det.analysis.bootstrap import (
    check_resamples,
    gamma_weights,
    seeded,
    units_of,
)
from nodule_det.analysis.interval import few_units, pseudo_lesions
from nodule_det.arrays import FloatArray, IntArray
from nodule_det.froc import Matched
from nodule_det.progress import counted


@dataclass(frozen=True, kw_only=True)
class Jafroc:
    """A figure of merit, None where there is no lesion or no scan without one.

    Attributes:
        figure: In [0, 1].
        se: Its standard error, never 0.
        interval: 95% CI, made as those of :func:`nodule_det.analysis.analyse`.
        n_normal: Scans compared with: those without lesions, or all of them.
        few_scans: Why the interval means nothing, where there are too few scans for any.
        reason: Why there is no figure.
    """

    figure: float | None = None
    se: float | None = None
    interval: tuple[float, float] | None = None
    n_normal: int
    few_scans: str | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def jafroc(
    matched: Matched,
    *,
    normal_only: bool = True,
    bootstrap: int = 1000,
    seed: int = 0,
    patients: Mapping[str, str] | None = None,
) -> Jafroc:
    """Compute the figure of merit in which every lesion counts the same.

    Args:
        matched: What the candidates hit.
        normal_only: Compare with scans without lesions (JAFROC1 takes all scans).
        bootstrap: Resamples of the scans or patients.
        seed: Of the resamples.
        patients: Patient of every scan, where patients have several.
    """
    weight = np.ones(matched.n_lesions)
    return _merit(matched, weight, normal_only, bootstrap, seed, patients)


def wafroc(
    matched: Matched,
    *,
    normal_only: bool = True,
    bootstrap: int = 1000,
    seed: int = 0,
    patients: Mapping[str, str] | None = None,
) -> Jafroc:
    """Compute the figure of merit in which every scan with lesions counts the same.

    The lesions of a scan share its weight equally.  The arguments are those of :func:`jafroc`.
    """
    count = np.bincount(matched.lesion_case, minlength=matched.n_cases)
    weight = 1 / count[matched.lesion_case]
    return _merit(matched, weight, normal_only, bootstrap, seed, patients)


def _merit(
    matched: Matched,
    weight: FloatArray,
    normal_only: bool,
    bootstrap: int,
    seed: int,
    patients: Mapping[str, str] | None,
) -> Jafroc:
    check_resamples(bootstrap)
    has_lesion = np.bincount(matched.lesion_case, minlength=matched.n_cases) > 0
    normal = np.flatnonzero(~has_lesion) if normal_only else np.arange(matched.n_cases)
    if not len(normal) or not matched.n_lesions:
        what = "lesion" if len(normal) else "scan without lesions"
        reason = f"there is no {what} among {counted(matched.n_cases, 'scan')}"
        return Jafroc(n_normal=len(normal), reason=reason)
    units, rng = units_of(matched.cases, patients), seeded(seed)
    by_name = np.argsort(matched.cases, kind="stable")  # scans in any order, equal sums
    normal = by_name[np.isin(by_name, normal)]
    wins = _wins(matched, normal)
    merit = _Merit(matched, weight, normal, wins, by_name)
    value = float(merit.figure(np.ones((1, matched.n_cases)), np.zeros(1), np.zeros(1))[0, 0])
    drawn, coin, normal_coin = (
        gamma_weights(units, bootstrap, rng),
        rng.standard_exponential(bootstrap),
        rng.standard_exponential(bootstrap),
    )
    added = wins.mean(axis=1)[:, None] * (weight * matched.n_lesions / weight.sum())[:, None]
    unit = units.of_case[matched.lesion_case]
    order = np.lexsort((added[:, 0], unit))
    pseudo = float(pseudo_lesions(added[order], unit[order])[0])
    both = merit.figure(drawn, coin * pseudo * weight.mean(), normal_coin)
    low, high = np.quantile(both, [0.025, 0.975])
    return Jafroc(
        figure=value,
        se=float(np.std(both, ddof=1)),
        interval=(min(float(low), value), max(float(high), value)),
        n_normal=len(normal),
        few_scans=few_units(units.n, "scans" if patients is None else "patients"),
    )


def _wins(matched: Matched, normal: IntArray) -> FloatArray:
    """Return (n_lesions, n_normal): whether a lesion wins over each scan, a tie as a half."""
    worst = np.full(matched.n_cases, -np.inf)
    np.maximum.at(worst, matched.fp_case, matched.fp_score)
    lesions = np.where(matched.found, matched.lesion_score, -np.inf)[:, None]
    return np.asarray((lesions > worst[normal]) + 0.5 * (lesions == worst[normal]), np.float64)


@dataclass(frozen=True)
class _Merit:
    """Pairs of lesions and normal scans, and who wins.

    Attributes:
        weight: (n_lesions,) how much a lesion counts.
        normal: (n_normal,) scans compared with.
        wins: (n_lesions, n_normal) outcome of each pair.
        by_name: (n_cases,) scans by rising id.
    """

    matched: Matched
    weight: FloatArray
    normal: IntArray
    wins: FloatArray
    by_name: IntArray

    def figure(self, weights: FloatArray, lesion: FloatArray, normal: FloatArray) -> FloatArray:
        """Return the (2, b) figures, with the pseudo-lesion and pseudo-scan lost, then won.

        Args:
            weights: (b, n_cases) weights of the scans.
            lesion: (b,) weight of a pseudo-lesion.
            normal: (b,) weight of a pseudo-scan without lesions.
        """
        n_cases, case = self.matched.n_cases, self.matched.lesion_case
        order = np.lexsort((self.wins.sum(axis=1), case))
        of_case = np.zeros((n_cases, len(self.normal)))
        np.add.at(of_case, case[order], self.wins[order] * self.weight[order, None])
        count = np.bincount(case, self.weight, n_cases)
        by_id, healthy = weights[:, self.by_name], weights[:, self.normal]
        won = ((by_id @ of_case[self.by_name]) * healthy).sum(axis=1)
        lesions, scans = by_id @ count[self.by_name], healthy.sum(axis=1)
        pairs, all_pairs = lesions * scans, (lesions + lesion) * (scans + normal)
        return np.stack([won / all_pairs, 1 - (pairs - won) / all_pairs])
