"""All figures of one detector, with their intervals: what ``froc.json`` holds.

Matched ──analyse()──▶ Froc ──as_dict()──▶ froc.json
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nodule_det.analysis.bootstrap import (
    Events,
    Resampled,
    check_resamples,
    draw_weights,
    leave_one_out,
)
from nodule_det.analysis.interval import (
    Interval,
    bca_interval,
    error_of_figure,
    logit_interval,
    percentile_interval,
)
from nodule_det.arrays import FloatArray
from nodule_det.froc import (
    CPM_RATES,
    UPPER,
    Matched,
    check_upper,
    cpm,
    froc_curve,
    pauc,
    pauc_step,
    sensitivity_at,
    threshold_at,
)

BAND_RATES = (0.0, 1 / 64, 1 / 32, 3 / 64, 1 / 16, *np.linspace(0.1, 8.0, 80).tolist())
"""Rates at which the band of the curve is computed: every 0.1, finer where the curve is steep."""

Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Froc:
    """The figures of one detector; every figure is None where there is no lesion.

    ``band`` has one (low, high) for each of ``band_rates``; intervals are of 95 %.
    """

    pauc: float | None
    pauc_se: float | None
    pauc_interval: Pair | None
    pauc_step: float | None
    upper: float
    cpm: float | None
    cpm_interval: Pair | None
    rates: tuple[float, ...]
    sensitivity: tuple[float, ...]
    sensitivity_interval: tuple[Pair, ...]
    threshold: tuple[float | None, ...]
    """Score above which each rate is kept; None where even the highest score makes more."""
    fp_per_scan: tuple[float, ...]
    """Of the curve, with ``curve_sensitivity`` and ``curve_threshold``, up to the first point past
    all that is read off it: 8 false positives per scan, or ``upper``."""
    curve_sensitivity: tuple[float, ...]
    curve_threshold: tuple[float | None, ...]
    band_rates: tuple[float, ...]
    band: tuple[Pair, ...]
    n_scans: int
    n_lesions: int
    n_found: int
    n_candidates: int
    n_false_positives: int
    n_excluded: int
    """Candidates ignored because they hit an excluded finding only."""
    n_repeated: int
    """Further hits of a lesion that a better candidate found."""
    bootstrap: int
    n_undefined: int
    """Resamples without any lesion, which were left out."""
    interval: str
    seed: int
    reason: str | None = None
    """Why the figures are None."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; infinite scores, which JSON lacks, are None."""
        return asdict(self)


def analyse(
    matched: Matched,
    *,
    upper: float = UPPER,
    bootstrap: int = 1000,
    seed: int = 0,
    interval: Interval = Interval.logit,
) -> Froc:
    """Compute every figure of a detector.

    Args:
        matched: What its candidates hit.
        upper: False positives per scan up to which the area is taken.
        bootstrap: Resamples of the cases.
        seed: Of the resamples: the same seed gives the same intervals.
        interval: Kind of interval.

    Raises:
        FrocInputError: If ``upper`` is not positive or ``bootstrap`` is less than 2.
    """
    check_resamples(bootstrap)
    check_upper(upper)
    if not matched.n_lesions:
        return _undefined(matched, upper, bootstrap, seed, interval)
    curve = froc_curve(matched)
    rates = np.asarray(CPM_RATES)
    events = Events(matched)
    drawn = draw_weights(matched.cases, bootstrap, np.random.default_rng(seed))
    at = np.concatenate([rates, BAND_RATES])
    figures = events.figures(drawn, upper, at)
    left_out: list[Resampled] = []

    def jackknife() -> Resampled:
        if not left_out:
            left_out.append(events.figures(leave_one_out(matched.cases), upper, at))
        return left_out[0]

    def bounds(value: float, resampled: FloatArray, column: int | None) -> Pair:
        if interval is Interval.percentile:
            return percentile_interval(resampled)
        if interval is Interval.bca:
            return bca_interval(value, resampled, lambda: _column(jackknife(), column))
        return logit_interval(value, resampled, matched.n_lesions)

    area, mean = pauc(curve, upper), cpm(curve)
    kept = slice(int(np.searchsorted(curve.fp_per_scan, max(upper, *at), side="right")) + 1)
    read = sensitivity_at(curve, at)
    pairs = [bounds(float(v), figures.sensitivity[:, i], i) for i, v in enumerate(read)]
    return Froc(
        pauc=area,
        pauc_se=error_of_figure(area, figures.pauc, matched.n_lesions),
        pauc_interval=bounds(area, figures.pauc, None),
        pauc_step=pauc_step(curve, upper),
        cpm=mean,
        cpm_interval=bounds(mean, figures.sensitivity[:, : len(rates)].mean(axis=1), -1),
        sensitivity=_floats(read[: len(rates)]),
        sensitivity_interval=tuple(pairs[: len(rates)]),
        threshold=_finite(threshold_at(curve, rates)),
        fp_per_scan=_floats(curve.fp_per_scan[kept]),
        curve_sensitivity=_floats(curve.sensitivity[kept]),
        curve_threshold=_finite(curve.threshold[kept]),
        band=tuple(pairs[len(rates) :]),
        n_undefined=figures.n_undefined,
        **_settings(matched, upper, bootstrap, seed, interval),
    )


def _column(figures: Resampled, column: int | None) -> FloatArray:
    """Return a figure of each resample: the area (None), CPM (-1), or one sensitivity."""
    if column is None:
        return figures.pauc
    if column == -1:
        return np.asarray(figures.sensitivity[:, : len(CPM_RATES)].mean(axis=1), np.float64)
    return np.asarray(figures.sensitivity[:, column], np.float64)


def _settings(
    matched: Matched, upper: float, bootstrap: int, seed: int, interval: Interval
) -> dict[str, Any]:
    finders = len(np.unique(matched.lesion_row[matched.found]))
    return {
        "upper": float(upper),
        "rates": CPM_RATES,
        "band_rates": BAND_RATES,
        "n_scans": matched.n_cases,
        "n_lesions": matched.n_lesions,
        "n_found": int(matched.found.sum()),
        "n_candidates": finders
        + len(matched.repeated_row)
        + len(matched.excluded_row)
        + len(matched.fp_row),
        "n_false_positives": len(matched.fp_row),
        "n_excluded": len(matched.excluded_row),
        "n_repeated": len(matched.repeated_row),
        "bootstrap": bootstrap,
        "seed": seed,
        "interval": interval.value,
    }


def _undefined(
    matched: Matched, upper: float, bootstrap: int, seed: int, interval: Interval
) -> Froc:
    return Froc(
        pauc=None,
        pauc_se=None,
        pauc_interval=None,
        pauc_step=None,
        cpm=None,
        cpm_interval=None,
        sensitivity=(),
        sensitivity_interval=(),
        threshold=(),
        fp_per_scan=(),
        curve_sensitivity=(),
        curve_threshold=(),
        band=(),
        n_undefined=bootstrap,
        reason=f"there is no lesion in {matched.n_cases} scans, so sensitivity is not defined",
        **_settings(matched, upper, bootstrap, seed, interval),
    )


def _floats(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _finite(values: FloatArray) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
