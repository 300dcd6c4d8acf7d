"""Free-response ROC: which candidate hits which lesion, the curve, and what is read off it.

    lesions + candidates ──match()──▶ Matched ──froc_curve()──▶ FrocCurve ──▶ pauc(), cpm()

Positions are world millimetres (x, y, z), LPS.  Nothing here knows about voxels, torch or files.
Intervals, comparisons and the audit are in ``nodule_det.analysis``; docs/froc.md defines every
figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from nodule_det.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    StrArray,
    as_columns,
    as_names,
    as_numbers,
    nearly,
)
from nodule_det.errors import FrocInputError
from nodule_det.progress import counted, of_total


@dataclass(frozen=True)
class Lesions:
    """Annotated findings, either those that count or those that are excluded.

    Columns may be lists, tensors or pandas columns: they are converted to text and float64.

    Attributes:
        case: (n,) id of the scan.
        world_mm: (n, 3) centres.
        diameter_mm: (n,) diameters.  Of an excluded finding one that is NaN, 0 or negative is
            unknown and read as 10 mm.
    """

    case: StrArray
    world_mm: FloatArray
    diameter_mm: FloatArray

    def __post_init__(self) -> None:
        columns = as_columns(self.case, self.world_mm, self.diameter_mm, ("lesions", "diameter_mm"))
        for name, column in zip(("case", "world_mm", "diameter_mm"), columns, strict=True):
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.case)

    def take(self, rows: IntArray) -> Lesions:
        """Return the lesions of these rows."""
        return Lesions(self.case[rows], self.world_mm[rows], self.diameter_mm[rows])


@dataclass(frozen=True)
class Candidates:
    """Output of a detector.

    Columns may be lists, tensors or pandas columns: they are converted to text and float64.

    Attributes:
        case: (n,) id of the scan.
        world_mm: (n, 3) points.
        score: (n,) larger means more suspicious.  Any scale will do, logits included.
    """

    case: StrArray
    world_mm: FloatArray
    score: FloatArray

    def __post_init__(self) -> None:
        columns = as_columns(self.case, self.world_mm, self.score, ("candidates", "score"))
        for name, column in zip(("case", "world_mm", "score"), columns, strict=True):
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.case)

    def take(self, rows: IntArray) -> Candidates:
        """Return the candidates of these rows."""
        return Candidates(self.case[rows], self.world_mm[rows], self.score[rows])


NO_LESIONS = Lesions(np.empty(0, np.str_), np.empty((0, 3)), np.empty(0))


EXCLUDED_MM = 10.0
"""Diameter of an excluded finding whose annotation has none: LUNA16's rule for a negative one, and
ours for one that is NaN or 0."""

PAIRS_AT_ONCE = 1_000_000
"""Pairs of candidate and finding whose distance is computed together."""

MISSED = -1

HitRule = Callable[[IntArray, IntArray], BoolArray]
"""Rows of findings and of candidates of the same case, (n,) pairs -> which pairs are hits."""


@dataclass(frozen=True)
class HitRules:
    """What counts as a hit, where it is not the distance to the centre.

    Attributes:
        lesions: Rows of lesions and candidates -> hits.
        excluded: Rows of excluded findings and candidates -> hits.
    """

    lesions: HitRule
    excluded: HitRule


def near_centre(findings: Lesions, candidates: Candidates) -> HitRule:
    """Return LUNA16's rule: a hit lies nearer to the centre than half the diameter."""
    known = findings.diameter_mm > 0
    radius_mm = np.where(known, findings.diameter_mm, EXCLUDED_MM) / 2

    def hits(finding: IntArray, candidate: IntArray) -> BoolArray:
        away_mm = candidates.world_mm[candidate] - findings.world_mm[finding]
        return np.asarray((away_mm * away_mm).sum(axis=1) < radius_mm[finding] ** 2)

    return hits


@dataclass(frozen=True)
class Matched:
    """The outcome for every lesion and candidate: all that the figures need.

    Attributes:
        cases: (n_cases,) evaluated cases, those without lesions or candidates included.
        lesion_case: (n_lesions,) index of each lesion's case.
        lesion_row: (n_lesions,) row of the candidate that found it, ``MISSED`` where none did.
        lesion_score: (n_lesions,) score of that candidate; meaningless where missed, so that no
            score has to stand for a miss.
        fp_case: (n_fp,) index of the case of each false positive.
        fp_score: (n_fp,) its score.
        fp_row: (n_fp,) its row in the candidates.
        excluded_row: rows that hit excluded findings only.
        repeated_row: rows that hit a lesion which a better candidate found.
        n_unknown: candidates left out because their case is not evaluated (opt-in).
        n_nan: candidates left out because their score is NaN (opt-in).
        n_rows: rows of the candidates that were read, including those left out.
    """

    cases: StrArray
    lesion_case: IntArray
    lesion_row: IntArray
    lesion_score: FloatArray
    fp_case: IntArray
    fp_score: FloatArray
    fp_row: IntArray
    excluded_row: IntArray
    repeated_row: IntArray
    n_unknown: int = 0
    n_nan: int = 0
    n_rows: int = 0

    def __post_init__(self) -> None:
        for name in ("lesion_score", "fp_score"):
            object.__setattr__(self, name, as_numbers(getattr(self, name), name))

    @property
    def n_cases(self) -> int:
        """Evaluated cases."""
        return len(self.cases)

    @property
    def n_lesions(self) -> int:
        """Lesions that count."""
        return len(self.lesion_case)

    @property
    def found(self) -> BoolArray:
        """(n_lesions,) whether any candidate hits it."""
        return np.asarray(self.lesion_row != MISSED)


def match(
    cases: Sequence[str] | StrArray,
    lesions: Lesions,
    candidates: Candidates,
    excluded: Lesions = NO_LESIONS,
    rules: HitRules | None = None,
    *,
    drop_unknown_findings: bool = False,
    drop_unknown_candidates: bool = False,
    drop_nan: bool = False,
) -> Matched:
    """Decide for every candidate what it hits, and for every lesion what found it.

    A lesion's score is the best among its hits; of equal ones the first row counts.  Its other
    hits are neither true nor false positives.  One candidate may find two lesions.  A candidate
    that hits only excluded findings is ignored.

    Args:
        cases: Ids of all evaluated cases.
        lesions: Findings that count.
        candidates: Output of the detector.
        excluded: Findings that are neither lesion nor background.
        rules: What counts as a hit; :func:`near_centre` by default.
        drop_unknown_findings: Leave out lesions and excluded findings of other cases, as when one
            fold is evaluated with the annotations of all.  An error otherwise.
        drop_unknown_candidates: Leave out candidates of other cases.  An error otherwise.
        drop_nan: Leave out candidates whose score is NaN.  An error otherwise.

    Raises:
        FrocInputError: If there is no case, a case is listed twice, a lesion has no positive
            diameter, a case is unknown, or a score is NaN.
    """
    for name, table, kind in (
        ("lesions", lesions, Lesions),
        ("candidates", candidates, Candidates),
        ("excluded", excluded, Lesions),
    ):
        if not isinstance(table, kind):
            raise FrocInputError(
                f"{name} must be {kind.__name__}, not {type(table).__name__}: "
                "nodule_det.evaluate.evaluate() takes DataFrames, dicts and paths"
            )
    known = _index_cases(cases)
    _check_diameters(lesions, excluded)
    lesion_of = _look_up(known, lesions.case, "lesion", drop_unknown_findings)
    excluded_of = _look_up(known, excluded.case, "excluded finding", drop_unknown_findings)
    case_of = _look_up(known, candidates.case, "candidate", drop_unknown_candidates)
    nan = np.isnan(candidates.score)
    if nan.any() and not drop_nan:
        first = int(np.flatnonzero(nan)[0])
        raise FrocInputError(
            f"{of_total(int(nan.sum()), len(candidates), 'score', 'is', 'are')} NaN; the first is "
            f"candidate row {first} of case {candidates.case[first]}; correct it, or remove these "
            "candidates (drop_nan=true leaves them out in nodule_det.evaluate)"
        )
    usable = (case_of >= 0) & ~nan
    by_case = _ByCase(np.where(usable, case_of, -1), len(known))

    rules = rules or HitRules(near_centre(lesions, candidates), near_centre(excluded, candidates))
    kept = np.flatnonzero(lesion_of >= 0)
    best = np.full(len(lesions), MISSED, np.int64)
    hits = np.zeros(len(candidates), bool)
    for lesion, rows in by_case.hits(lesion_of, rules.lesions):
        hits[rows] = True
        _keep_best(best, lesion, rows, candidates.score)
    row_of = best[kept]

    ignored = np.zeros(len(candidates), bool)
    for _, rows in by_case.hits(excluded_of, rules.excluded):
        ignored[rows] = True
    ignored &= ~hits
    fp = np.flatnonzero(usable & ~hits & ~ignored)
    finders = np.zeros(len(candidates), bool)
    finders[row_of[row_of != MISSED]] = True
    return Matched(
        cases=np.array(list(known), np.str_),
        lesion_case=lesion_of[kept],
        lesion_row=row_of,
        lesion_score=np.append(candidates.score, 0.0)[row_of],
        fp_case=case_of[fp],
        fp_score=candidates.score[fp],
        fp_row=fp,
        excluded_row=np.flatnonzero(ignored),
        repeated_row=np.flatnonzero(hits & ~finders),
        n_unknown=int((case_of < 0).sum()),
        n_nan=int(nan.sum()),
        n_rows=len(candidates),
    )


def _index_cases(cases: Sequence[str] | StrArray) -> dict[str, int]:
    names = as_names(cases, "the list of scans")
    if not len(names):
        raise FrocInputError("there is no case to evaluate: the list of scans is empty")
    index: dict[str, int] = {}
    for i, name in enumerate(names.tolist()):
        if index.setdefault(name, i) != i:
            raise FrocInputError(f"case {name} is listed twice in the list of scans")
    return index


def _look_up(known: dict[str, int], case: StrArray, what: str, drop: bool) -> IntArray:
    """Return the index of each case, -1 where it is not evaluated."""
    # The strings of a whole column would need more memory than the column: a part at a time.
    index = np.empty(len(case), np.int64)
    for start in range(0, len(case), PAIRS_AT_ONCE):
        names = case[start : start + PAIRS_AT_ONCE].tolist()
        index[start : start + len(names)] = [known.get(name, -1) for name in names]
    if (index < 0).any() and not drop:
        odd = np.unique(case[index < 0])
        setting = "candidates" if what == "candidate" else "findings"
        raise FrocInputError(
            f"{counted(int((index < 0).sum()), f'{what} belongs', f'{what}s belong')} to "
            f"{counted(len(odd), 'case that is', 'cases that are')} not in the list of "
            f"scans, such as {str(odd[0])!r}{nearly(str(odd[0]), known)}; correct the list, or "
            f"leave them out (drop_unknown_{setting}=true)"
        )
    return index


def _check_diameters(lesions: Lesions, excluded: Lesions) -> None:
    bad = np.flatnonzero(~(lesions.diameter_mm > 0) | ~np.isfinite(lesions.diameter_mm))
    if len(bad):
        raise FrocInputError(
            f"lesion row {bad[0]} of case {lesions.case[bad[0]]} has diameter_mm="
            f"{lesions.diameter_mm[bad[0]]}: a lesion that counts needs a positive diameter"
        )
    bad = np.flatnonzero(excluded.diameter_mm == np.inf)
    if len(bad):
        raise FrocInputError(
            f"excluded row {bad[0]} of case {excluded.case[bad[0]]} has diameter_mm=inf, which "
            "would exclude the whole scan: correct it, or use -1 where it is unknown"
        )


class _ByCase:
    """Candidates sorted by case, so that those of one case are a slice."""

    def __init__(self, case_of: IntArray, n_cases: int) -> None:
        self._rows = np.argsort(case_of, kind="stable").astype(np.int64)
        edges = np.searchsorted(case_of[self._rows], np.arange(n_cases + 1))
        self._start, self._count = edges[:-1], np.diff(edges)

    def hits(self, case_of: IntArray, rule: HitRule) -> Iterator[tuple[IntArray, IntArray]]:
        """Yield (finding, candidate row) pairs, chunk by chunk, by rising finding.

        Args:
            case_of: (n_findings,) case of each finding, -1 for one that does not count.
            rule: Decides which pairs are hits.
        """
        findings = np.flatnonzero(case_of >= 0)
        count = self._count[case_of[findings]]
        chunks = np.cumsum(count) // PAIRS_AT_ONCE
        for chunk in np.unique(chunks):
            some = chunks == chunk
            n, first = count[some], self._start[case_of[findings[some]]]
            finding = np.repeat(findings[some], n)
            row = self._rows[np.arange(n.sum()) + np.repeat(first - np.cumsum(n) + n, n)]
            hit = rule(finding, row)
            yield finding[hit], row[hit]


def _keep_best(best: IntArray, lesion: IntArray, row: IntArray, score: FloatArray) -> None:
    """Set the best row of each lesion of a chunk in ``best``; of equal scores the first row."""
    order = np.lexsort((row, -score[row], lesion))
    lesion, row = lesion[order], row[order]
    first = np.flatnonzero(np.diff(lesion, prepend=-1))
    best[lesion[first]] = row[first]


UPPER = 5.0
"""False positives per scan up to which the partial area is taken."""

CPM_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which LUNA16 reads the sensitivity."""


@dataclass(frozen=True)
class FrocCurve:
    """Operating points from the strictest threshold to the laxest, each of shape (t + 1,).

    The first is (0, 0) with threshold infinity; neither axis ever falls.
    """

    fp_per_scan: FloatArray
    sensitivity: FloatArray
    threshold: FloatArray


def froc_curve(matched: Matched) -> FrocCurve:
    """Trace sensitivity against false positives per scan, one point per distinct score.

    Equal scores enter together, so the order of the input never matters.

    Raises:
        FrocInputError: If there is no lesion: then sensitivity is not defined.
    """
    if not matched.n_lesions:
        raise FrocInputError(
            f"there is no lesion in {counted(matched.n_cases, 'scan')}, so sensitivity is not "
            "defined; was the annotation file filtered down to nothing?"
        )
    found, fps = np.sort(matched.lesion_score[matched.found]), np.sort(matched.fp_score)
    scores = np.unique(np.concatenate([found, fps]))[::-1]
    n_found = len(found) - np.searchsorted(found, scores, side="left")
    n_fp = len(fps) - np.searchsorted(fps, scores, side="left")
    return FrocCurve(
        np.append(0.0, n_fp / matched.n_cases),
        np.append(0.0, n_found / matched.n_lesions),
        np.append(np.inf, scores),
    )


def pauc(curve: FrocCurve, upper: float = UPPER) -> float:
    """Return the area under the polyline from 0 to ``upper``, divided by ``upper``: in [0, 1].

    The line is continued flat after its last point, so false positives of the lowest score, added
    at the end, change nothing.
    """
    check_upper(upper)
    return float(areas(curve.fp_per_scan[None], curve.sensitivity[None], upper)[0])


def sensitivity_at(curve: FrocCurve, fp_per_scan: ArrayLike) -> FloatArray:
    """Read the polyline; on a vertical piece the upper value counts."""
    return read(curve.fp_per_scan, curve.sensitivity, check_rates(fp_per_scan))


def threshold_at(curve: FrocCurve, fp_per_scan: ArrayLike) -> FloatArray:
    """Return the lowest score that keeps the false positives at or below each rate.

    Infinity where even the highest score makes more.
    """
    rates = check_rates(fp_per_scan)
    return curve.threshold[np.searchsorted(curve.fp_per_scan, rates, side="right") - 1]


def check_rates(fp_per_scan: ArrayLike) -> FloatArray:
    """Return rates as (r,) float64, and refuse negative ones and NaN."""
    rates = np.atleast_1d(as_numbers(fp_per_scan, "false positives per scan"))
    if not (rates >= 0).all():
        wrong = rates[~(rates >= 0)][0]
        raise FrocInputError(f"fp_per_scan={wrong:g} must be a number of at least 0")
    return rates


def cpm(curve: FrocCurve) -> float:
    """Return the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan."""
    return float(sensitivity_at(curve, CPM_RATES).mean())


def areas(fp_per_scan: FloatArray, sensitivity: FloatArray, upper: float) -> FloatArray:
    """Return the partial areas of many curves at once.

    Args:
        fp_per_scan: (b, t) never falling, from 0.
        sensitivity: (b, t) never falling.
        upper: Where the area ends.

    Returns:
        (b,) areas divided by ``upper``.
    """
    run = np.diff(fp_per_scan, axis=1)
    kept = np.diff(np.minimum(fp_per_scan, upper), axis=1)
    share = np.divide(kept, run, out=np.zeros_like(run), where=run > 0)
    height = sensitivity[:, :-1] + np.diff(sensitivity, axis=1) * share / 2
    beyond = np.maximum(upper - fp_per_scan[:, -1], 0.0) * sensitivity[:, -1]
    return np.asarray(((kept * height).sum(axis=1) + beyond) / upper, np.float64)


def read(fp_per_scan: FloatArray, sensitivity: FloatArray, rates: FloatArray) -> FloatArray:
    """Read one polyline, (t,) and (t,), at (r,) rates."""
    below = np.searchsorted(fp_per_scan, rates, side="right") - 1
    above = np.minimum(below + 1, len(fp_per_scan) - 1)
    run = fp_per_scan[above] - fp_per_scan[below]
    share = np.divide(rates - fp_per_scan[below], run, out=np.zeros_like(rates), where=run > 0)
    rise = sensitivity[above] - sensitivity[below]
    return np.asarray(sensitivity[below] + rise * share, np.float64)


def check_upper(upper: float) -> None:
    """Refuse an end of the area that is not a positive number."""
    if not (isinstance(upper, Real) and 0 < upper < np.inf):
        raise FrocInputError(f"upper={upper} must be a positive number of false positives per scan")
