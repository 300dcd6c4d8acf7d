"""An evaluation in a notebook: tables in, one object with curve, figures, CIs and audit out.

evaluate(candidates, lesions, scans=...) ──▶ Evaluation ──▶ .plot(ax), .to_frame(), .compare()
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from typing import Any

import numpy as np

from nodule_det.analysis import AuditFinding, Comparison, Froc, Level, analyse, audit, compare
from nodule_det.arrays import FloatArray
from nodule_det.errors import FrocInputError
from nodule_det.evaluate.hits import Boxes, HitBy, Sizes, read_rules
from nodule_det.evaluate.tables import (
    as_candidates,
    as_lesions,
    as_patients,
    as_scans,
    as_sizes,
)
from nodule_det.evaluate.words import FEW
from nodule_det.froc import NO_LESIONS, UPPER, FrocCurve, Lesions, Matched, froc_curve, match
from nodule_det.progress import counted, of_total


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The FROC analysis of one detector.

    It unpacks into false positives per scan, sensitivity and threshold, as scikit-learn's
    ``roc_curve`` does: ``fp_per_scan, sensitivity, threshold = evaluate(...)``.

    Attributes:
        froc: Every figure with its 95% CI.
        curve: All points of the curve.
        matched: What the candidates hit.
        lesions: Lesions of the evaluated scans, in the order of ``matched``.
        audit: What may be wrong with the input, warnings first.
        patients: Patient of every scan; None where scans are resampled.
    """

    froc: Froc
    curve: FrocCurve
    matched: Matched
    lesions: Lesions
    audit: tuple[AuditFinding, ...]
    patients: dict[str, str] | None

    def __iter__(self) -> Iterator[FloatArray]:
        """Yield false positives per scan, sensitivity and threshold, each of shape (t + 1,)."""
        yield from (self.curve.fp_per_scan, self.curve.sensitivity, self.curve.threshold)

    @property
    def warnings(self) -> tuple[AuditFinding, ...]:
        """Findings of the audit which mean that the figures are probably not the intended ones."""
        return tuple(finding for finding in self.audit if finding.level is Level.WARNING)

    def compare(self, other: Evaluation, *, detect: float = 0.03) -> Comparison:
        """Compare with another detector on the same scans and lesions.

        Args:
            other: The other detector.
            detect: Difference for which the number of scans needed is computed.
        """
        return compare(
            self.matched,
            other.matched,
            upper=self.froc.upper,
            bootstrap=self.froc.bootstrap,
            seed=self.froc.seed,
            detect=detect,
            patients=self.patients,
        )

    def plot(self, ax: Any = None, *, label: str = "", log_x: bool = False) -> Any:
        """Draw the curve with its 95% band.

        Args:
            ax: Matplotlib axes; the current ones by default.
            label: Name of the detector in the legend.
            log_x: Whether the axis is logarithmic, from 1/8 to 8 as in LUNA16.

        Returns:
            The axes.
        """
        if ax is None:
            from matplotlib import pyplot as plt

            ax = plt.gca()
        froc = self.froc
        name = f"{label}: " if label else ""
        line, *_ = ax.plot(
            np.append(froc.fp_per_scan, max(8.0, froc.fp_per_scan[-1])),
            np.append(froc.curve_sensitivity, froc.curve_sensitivity[-1]),
            label=f"{name}pAUC {froc.pauc:.3f} ({self._ci(froc.pauc_interval, 3)})",
        )
        if froc.few_scans is None:
            low, high = np.transpose(froc.band)
            ax.fill_between(froc.band_rates, low, high, color=line.get_color(), alpha=0.15, lw=0)
        ax.set(xlabel="false positives per scan", ylabel="sensitivity", ylim=(0, 1))
        if log_x:
            ax.set_xscale("log", base=2)
            ax.set_xticks(froc.rates, [str(Fraction(rate)) for rate in froc.rates])
        ax.set_xlim(1 / 8 if log_x else 0, 8)
        ax.legend(loc="lower right")
        return ax

    def to_frame(self) -> Any:
        """Return a pandas DataFrame: each figure with its 95% CI and score threshold.

        Raises:
            FrocInputError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise FrocInputError(
                "to_frame() needs pandas, which is not installed: pip install pandas"
            ) from None
        columns = ("figure", "value", "ci_low", "ci_high", "threshold")
        return pd.DataFrame(
            [(name, value, *interval, at) for name, value, interval, at in self._rows()],
            columns=list(columns),
        ).set_index("figure")

    def _rows(self) -> Iterator[tuple[str, float, tuple[float, float], float | None]]:
        froc = self.froc
        for name, figure, ci in (
            (f"pAUC, 0-{froc.upper:g} FP/scan", froc.pauc, froc.pauc_interval),
            ("CPM", froc.cpm, froc.cpm_interval),
        ):
            if figure is not None and ci is not None:
                yield name, figure, ci, None
        for rate, value, interval, at in zip(
            froc.rates, froc.sensitivity, froc.sensitivity_interval, froc.threshold, strict=True
        ):
            yield f"sensitivity at {Fraction(rate)} FP/scan", value, interval, at

    def _ci(self, interval: tuple[float, float] | None, digits: int) -> str:
        if self.froc.few_scans is not None or interval is None:
            return FEW
        return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"

    def __str__(self) -> str:
        froc = self.froc
        patients = "" if froc.n_patients is None else f" of {counted(froc.n_patients, 'patient')}"
        return (
            f"{of_total(froc.n_found, froc.n_lesions, 'lesion')} detected in "
            f"{counted(froc.n_scans, 'scan')}{patients}, "
            f"{counted(froc.n_false_positives, 'false positive')}"
        )

    def __repr__(self) -> str:
        froc = self.froc
        interval = self._ci(froc.pauc_interval, 4)
        return f"Evaluation(pAUC {froc.pauc:.4f} ({interval}), CPM {froc.cpm:.4f}; {self})"

    def _repr_html_(self) -> str:
        """Return a table for a notebook, with the warnings of the audit."""
        rows = "".join(
            f"<tr><th>{name}</th><td>{value:.4f}</td><td>{self._ci(interval, 4)}</td>"
            f"<td>{'' if at is None else f'{at:.4g}'}</td></tr>"
            for name, value, interval, at in self._rows()
        )
        head = "<tr><th></th><th></th><th>95% CI</th><th>threshold</th></tr>"
        warnings = "".join(f"<li>{escape(finding.message)}</li>" for finding in self.warnings)
        return (
            f"<p>{escape(str(self))}</p><table>{head}{rows}</table>"
            f"{f'<p>Warnings:</p><ul>{warnings}</ul>' if warnings else ''}"
        )


def evaluate(
    candidates: Any,
    lesions: Any,
    *,
    scans: Any,
    excluded: Any = None,
    patients: Any = None,
    hit: HitBy = None,
    upper: float = UPPER,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a detector whose candidates and annotations are DataFrames, dicts or CSV files.

    Args:
        candidates: Columns ``seriesuid``, ``coordX``, ``coordY``, ``coordZ`` in world mm (x, y, z),
            LPS, and ``probability``.  ``case``, ``x``, ``y``, ``z``, ``world_mm`` and ``score`` are
            understood, too.
        lesions: The same columns with ``diameter_mm`` in place of a score.
        scans: Ids of all evaluated scans, those without lesions included: a list, a table with a
            column of ids, or a path.
        excluded: Findings that are neither lesion nor false positive.
        patients: Patient of every scan, where patients have several: a dict, or a table with a
            column ``patient``.  A column ``patient`` of ``scans`` is used by itself.
        hit: ``Boxes(iou=0.1)`` or ``Masks(FOLDER)`` where boxes or masks decide what is a hit; by
            default it is the distance to the centre.  Boxes have the columns ``sizeX``, ``sizeY``,
            ``sizeZ`` in mm or one (n, 3) array ``size_mm``, or are cubes of ``diameter_mm``.
        upper: False positives per scan up to which the area is taken.
        bootstrap: Resamples for the 95% CIs.
        seed: Of the resamples.

    Raises:
        FrocInputError: If a column is missing or wrong, or there is no lesion.

    Example:
        >>> rows = {"case": ["a", "b"], "world_mm": [[0, 0, 0], [9, 9, 9]]}
        >>> done = evaluate(rows | {"score": [0.9, 0.4]}, rows | {"diameter_mm": [6, 6]},
        ...                 scans=["a", "b", "c"])
        >>> fp_per_scan, sensitivity, threshold = done
        >>> sensitivity
        array([0. , 0.5, 1. ])
    """
    found, counted = as_candidates(candidates), as_lesions(lesions)
    left_out = NO_LESIONS if excluded is None else as_lesions(excluded, "excluded")
    known = {name for table in (found, counted, left_out) for name in np.unique(table.case)}
    cases = as_scans(scans, known)
    of_patient = as_patients(patients, scans, cases)
    sizes = _sizes(lesions, candidates, excluded) if isinstance(hit, Boxes) else None
    rules = read_rules(hit, cases, (counted, found, left_out), sizes)
    matched = match(cases, counted, found, left_out, rules)
    by_centre = None if rules is None else match(cases, counted, found, left_out)
    return Evaluation(
        froc=analyse(matched, upper=upper, bootstrap=bootstrap, seed=seed, patients=of_patient),
        curve=froc_curve(matched),
        matched=matched,
        lesions=counted,
        audit=tuple(audit(counted, found, left_out, matched, by_centre)),
        patients=of_patient,
    )


def _sizes(lesions: Any, candidates: Any, excluded: Any) -> Sizes:
    return Sizes(
        as_sizes(lesions, "lesions"),
        as_sizes(candidates, "candidates"),
        np.empty((0, 3)) if excluded is None else as_sizes(excluded, "excluded"),
    )
