"""All figures of one detector, with their intervals: what ``froc.json`` holds.

Matched ──analyse()──▶ Froc ──as_dict()──▶ froc.json
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nodule_det.analysis.bootstrap import (
    Events,
    Units,
    check_resamples,
    draw_weights,
    gamma_weights,
    leave_one_out,
    seeded,
    units_of,
)
from nodule_det.analysis.interval import (
    Bounds,
    Interval,
    bca_interval,
    error_of_figure,
    few_units,
    gamma_intervals,
    interval_kind,
    logit_interval,
    percentile_interval,
    pseudo_lesions,
)
from nodule_det.analysis.steps import pauc_step, sensitivity_step_at
from nodule_det.analysis.worth import cost, worth
from nodule_det.arrays import FloatArray
from nodule_det.froc import (
    CPM_RATES,
    UPPER,
    Matched,
    check_upper,
    froc_curve,
    pauc,
    sensitivity_at,
    threshold_at,
)
from nodule_det.progress import counted

BAND_RATES = (0.0, 1 / 64, 1 / 32, 3 / 64, 1 / 16, *np.linspace(0.1, 8.0, 80).tolist())
"""Rates at which the band of the curve is computed: every 0.1, finer where the curve is steep."""

Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Froc:
    """The figures of one detector; every figure is None or empty where there is no lesion.

    Intervals are 95% CIs.  ``band`` has one (low, high) for each of ``band_rates``.  Figures that
    end in ``_step`` are what a threshold can reach: they differ from the others only where lesions
    and false positives have equal scores.
    """

    pauc: float | None = None
    pauc_se: float | None = None
    """Standard error, never 0: the spread of the resamples that the CI is made of."""
    pauc_interval: Pair | None = None
    pauc_step: float | None = None
    upper: float
    cpm: float | None = None
    cpm_interval: Pair | None = None
    cpm_step: float | None = None
    rates: tuple[float, ...] = CPM_RATES
    sensitivity: tuple[float, ...] = ()
    sensitivity_interval: tuple[Pair, ...] = ()
    sensitivity_step: tuple[float, ...] = ()
    threshold: tuple[float | None, ...] = ()
    """Score above which each rate is kept; None where even the highest score makes more."""
    fp_per_scan: tuple[float, ...] = ()
    """Of the curve, with ``curve_sensitivity`` and ``curve_threshold``, up to the first point past
    all that is read off it: 8 false positives per scan, or ``upper``."""
    curve_sensitivity: tuple[float, ...] = ()
    curve_threshold: tuple[float | None, ...] = ()
    band_rates: tuple[float, ...] = BAND_RATES
    band: tuple[Pair, ...] = ()
    n_scans: int
    n_patients: int | None = None
    """Patients that were resampled; None where scans were."""
    n_lesions: int
    n_found: int
    n_candidates: int
    n_false_positives: int
    n_excluded: int
    """Candidates ignored because they hit an excluded finding only."""
    n_repeated: int
    """Duplicate detections: further hits of a lesion that a better candidate found."""
    bootstrap: int
    n_undefined: int = 0
    """Resamples without any lesion, which were left out; none with ``gamma`` intervals."""
    interval: str
    seed: int
    few_scans: str | None = None
    """Why the intervals mean nothing, where there are too few scans or patients for any."""
    reason: str | None = None
    """Why there are no figures."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; infinite scores, which JSON lacks, are None."""
        return asdict(self)


def analyse(
    matched: Matched,
    *,
    upper: float = UPPER,
    bootstrap: int = 1000,
    seed: int = 0,
    interval: Interval | str = Interval.gamma,
    patients: Mapping[str, str] | None = None,
) -> Froc:
    """Compute every figure of a detector.

    Args:
        matched: What its candidates hit.
        upper: False positives per scan up to which the area is taken.
        bootstrap: Resamples of the scans or patients.
        seed: Of the resamples: the same seed gives the same intervals.
        interval: Kind of interval.
        patients: Patient of every scan, where patients have several: their scans are not
            independent, so patients are resampled.

    Raises:
        FrocInputError: If ``upper`` is not positive, ``bootstrap`` is less than 2, ``interval`` is
            unknown, or a scan has no patient.
    """
    check_resamples(bootstrap)
    check_upper(upper)
    kind, units = interval_kind(interval), units_of(matched.cases, patients)
    settings: dict[str, Any] = {
        **_counts(matched),
        "n_patients": None if patients is None else units.n,
        "few_scans": few_units(units.n, "scans" if patients is None else "patients"),
        "upper": float(upper),
        "bootstrap": bootstrap,
        "seed": seed,
        "interval": kind.value,
    }
    if not matched.n_lesions:
        scans = counted(matched.n_cases, "scan")
        reason = f"there is no lesion in {scans}, so sensitivity is not defined"
        return Froc(reason=reason, **settings)
    curve, rates = froc_curve(matched), np.asarray(CPM_RATES)
    at = np.concatenate([rates, BAND_RATES])
    values = _columns(np.array([pauc(curve, upper)]), sensitivity_at(curve, at)[None])[0]
    draw = _Draw(matched, units, upper, at, seeded(seed), bootstrap)
    bounds, n_undefined = draw.bounds(values, kind)
    pairs = list(zip(bounds.low.tolist(), bounds.high.tolist(), strict=True))
    kept = slice(int(np.searchsorted(curve.fp_per_scan, max(upper, *at), side="right")) + 1)
    first, last = 2, 2 + len(rates)
    step = sensitivity_step_at(curve, rates)
    return Froc(
        pauc=float(values[0]),
        pauc_se=float(bounds.se[0]),
        pauc_interval=pairs[0],
        pauc_step=pauc_step(curve, upper),
        cpm=float(values[1]),
        cpm_interval=pairs[1],
        cpm_step=float(step.mean()),
        sensitivity=_floats(values[first:last]),
        sensitivity_interval=tuple(pairs[first:last]),
        sensitivity_step=_floats(step),
        threshold=_finite(threshold_at(curve, rates)),
        fp_per_scan=_floats(curve.fp_per_scan[kept]),
        curve_sensitivity=_floats(curve.sensitivity[kept]),
        curve_threshold=_finite(curve.threshold[kept]),
        band=tuple(pairs[last:]),
        n_undefined=n_undefined,
        **settings,
    )


def _columns(area: FloatArray, sensitivity: FloatArray) -> FloatArray:
    """Return (k, 2 + r) figures: pAUC, CPM, then the r sensitivities, of which 7 make the CPM."""
    mean = sensitivity[:, : len(CPM_RATES)].mean(axis=1)
    return np.column_stack([area, mean, sensitivity])


@dataclass(frozen=True)
class _Draw:
    """How one detector is resampled."""

    matched: Matched
    units: Units
    upper: float
    rates: FloatArray
    rng: np.random.Generator
    n: int

    def bounds(self, values: FloatArray, kind: Interval) -> tuple[Bounds, int]:
        """Return the intervals of all columns, and how many resamples held no lesion."""
        if kind is Interval.gamma:
            return self._gamma(values), 0
        events = Events(self.matched)
        drawn = events.figures(draw_weights(self.units, self.n, self.rng), self.upper, self.rates)
        resampled = _columns(drawn.pauc, drawn.sensitivity)
        n_lesions = self.matched.n_lesions
        if kind is Interval.bca:
            left_out = events.figures(leave_one_out(self.units), self.upper, self.rates)
            without = _columns(left_out.pauc, left_out.sensitivity)
            pairs = [
                bca_interval(v, r, w)
                for v, r, w in zip(values, resampled.T, without.T, strict=True)
            ]
        elif kind is Interval.percentile:
            pairs = [percentile_interval(r) for r in resampled.T]
        else:
            columns = zip(values, resampled.T, strict=True)
            pairs = [logit_interval(v, r, n_lesions) for v, r in columns]
        errors = (
            error_of_figure(v, r, n_lesions) for v, r in zip(values, resampled.T, strict=True)
        )
        low, high = np.array(pairs, np.float64).T
        return Bounds(low, high, np.array(list(errors))), drawn.n_undefined

    def _gamma(self, values: FloatArray) -> Bounds:
        weights = gamma_weights(self.units, self.n, self.rng)
        drawn = Events(self.matched).figures(weights, self.upper, self.rates)
        of_lesion = cost(self.matched)
        unit = self.units.of_case[self.matched.lesion_case]
        order = np.lexsort((of_lesion.most, of_lesion.least, unit))  # rows in any order, equal sums
        added = _columns(*worth(of_lesion, self.upper, self.rates))
        return gamma_intervals(
            values,
            _columns(drawn.pauc, drawn.sensitivity),
            drawn.n_lesions,
            pseudo_lesions(added[order], unit[order]),
            self.rng.standard_exponential(self.n),
        )


def _counts(matched: Matched) -> dict[str, int]:
    finders = len(np.unique(matched.lesion_row[matched.found]))
    rest = (matched.repeated_row, matched.excluded_row, matched.fp_row)
    return {
        "n_scans": matched.n_cases,
        "n_lesions": matched.n_lesions,
        "n_found": int(matched.found.sum()),
        "n_candidates": finders + sum(len(rows) for rows in rest),
        "n_false_positives": len(matched.fp_row),
        "n_excluded": len(matched.excluded_row),
        "n_repeated": len(matched.repeated_row),
    }


def _floats(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _finite(values: FloatArray) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
