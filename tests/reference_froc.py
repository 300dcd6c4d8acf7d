"""Slow, obvious, exact FROC reference (oracle for the project's fast code).

Standard library only.  Every number that leaves this file is a Fraction (or None
where the quantity is undefined), so a fast implementation can be compared with
`abs(fast - float(ref)) <= 1e-12`.

Definitions
-----------
cases        the list of evaluated cases (N of them; cases with no lesion and cases
             with no detection count in N).
lesion       (case, x, y, z, diameter).  "excluded" findings have the same shape; a
             negative diameter means "unknown" and becomes DEFAULT_EXCLUDED_DIAMETER.
detection    (case, x, y, z, score), all coordinates in mm in the same world frame.
hit          dist2(detection, finding) < (diameter/2)^2         (strict, as LUNA16)
             or <= with strict=False.
duplicates   "ignore": every detection that hits an included lesion is never a FP; the
             lesion's score is the best of its hits (LUNA16).  One detection that hits
             two lesions finds both (LUNA16).
             "fp": of the detections that hit lesions, only those which are the best hit
             (highest score, then lowest input index) of some lesion are spared, the
             others are FPs.
excluded     a detection that hits no included lesion but an excluded finding is
             neither TP nor FP.  Included wins over excluded.
score ties   all detections with an equal score enter together (one operating point).
curve        F_k = #FP(score >= t_k)/N,  S_k = #lesions(score >= t_k)/L,
             t_1 > t_2 > ... distinct scores, (F_0, S_0) = (0, 0).
S_step(x)    = max{S_k : F_k <= x}                  what a threshold can really reach
S_linear(x)  = the polyline through (F_k, S_k), upper value at vertical pieces
both are continued horizontally after the last point.
pauc         = (1/U) * integral_0^U S(x) dx,  U = 5 FP/case unless told.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, field
from fractions import Fraction as Fr

DEFAULT_EXCLUDED_DIAMETER = 10.0
LUNA_POINTS = tuple(Fr(1, 8) * 2**i for i in range(7))  # 1/8 .. 8


class FrocInputError(ValueError):
    pass


@dataclass
class Matched:
    n_cases: int
    lesion_case: list = field(default_factory=list)
    lesion_score: list = field(default_factory=list)  # None = missed
    fp_case: list = field(default_factory=list)
    fp_score: list = field(default_factory=list)
    fp_index: list = field(default_factory=list)  # position in `detections`
    n_ignored_excluded: int = 0
    n_duplicate: int = 0
    n_unknown_case: int = 0
    n_nan: int = 0
    n_capped: int = 0


def _dist2(a, b):
    return sum((Fr(p) - Fr(q)) ** 2 for p, q in zip(a, b, strict=False))


def _hits(det, finding, strict):
    d = finding[4]
    if d < 0:
        d = DEFAULT_EXCLUDED_DIAMETER
    r2 = (Fr(d) / 2) ** 2
    d2 = _dist2(det[1:4], finding[1:4])
    return d2 < r2 if strict else d2 <= r2


def cap_luna16(scores, limit):
    """Indices kept by LUNA16's maxNumberOfCADMarks: strictly above the (limit+1)-th best."""
    if limit is None or len(scores) <= limit:
        return list(range(len(scores)))
    thr = sorted(scores, reverse=True)[limit]
    return [i for i, s in enumerate(scores) if s > thr][:limit]


def match(
    cases,
    lesions,
    detections,
    excluded=(),
    *,
    strict=True,
    duplicates="ignore",
    unknown="raise",
    nan="raise",
    max_per_case=None,
):
    cases = list(cases)
    if len(set(cases)) != len(cases):
        raise FrocInputError("duplicate case id")
    if not cases:
        raise FrocInputError("no cases")
    known = set(cases)
    for f in lesions:
        if not f[4] > 0 or any(not math.isfinite(v) for v in f[1:5]):
            raise FrocInputError(f"bad lesion {f!r}")
    m = Matched(len(cases))
    dets = []
    for i, d in enumerate(detections):
        if d[0] not in known:
            if unknown == "raise":
                raise FrocInputError(f"detection on unknown case {d[0]!r}")
            m.n_unknown_case += 1
            continue
        if any(not math.isfinite(v) for v in d[1:4]):
            raise FrocInputError(f"bad coordinate {d!r}")
        if math.isnan(d[4]):
            if nan == "raise":
                raise FrocInputError("NaN score")
            m.n_nan += 1  # nan == "drop"
            continue
        dets.append((i, d))
    for f in list(lesions) + list(excluded):
        if f[0] not in known and unknown == "raise":
            raise FrocInputError(f"finding on unknown case {f[0]!r}")
    for c in cases:
        dc = [(i, d) for i, d in dets if d[0] == c]
        keep = cap_luna16([d[4] for _, d in dc], max_per_case)
        m.n_capped += len(dc) - len(keep)
        dc = [dc[k] for k in keep]
        lc = [f for f in lesions if f[0] == c]
        xc = [f for f in excluded if f[0] == c]
        hit_any, best = set(), set()
        for f in lc:
            hits = [(d[4], -i) for i, d in dc if _hits(d, f, strict)]
            m.lesion_case.append(c)
            if hits:
                s, negi = max(hits)
                m.lesion_score.append(s)
                best.add(-negi)
                hit_any |= {-n for _, n in hits}
                m.n_duplicate += len(hits) - 1
            else:
                m.lesion_score.append(None)
        for i, d in dc:
            if i in hit_any:
                if duplicates == "ignore" or i in best:
                    continue
            elif any(_hits(d, f, strict) for f in xc):
                m.n_ignored_excluded += 1
                continue
            m.fp_case.append(c)
            m.fp_score.append(d[4])
            m.fp_index.append(i)
    return m


# ---------------------------------------------------------------- curve
def curve(m: Matched):
    """[(F, S, threshold)], first point (0, 0, +inf).  None if there is no lesion."""
    L = len(m.lesion_score)
    if L == 0:
        return None
    pts = [(Fr(0), Fr(0), math.inf)]
    found = [s for s in m.lesion_score if s is not None]
    for t in sorted(set(found) | set(m.fp_score), reverse=True):
        pts.append(
            (Fr(sum(s >= t for s in m.fp_score), m.n_cases), Fr(sum(s >= t for s in found), L), t)
        )
    return pts


def sens_step(pts, x):
    return max(s for f, s, _ in pts if f <= x)


def sens_linear(pts, x):
    x = Fr(x)
    lo = max((p for p in pts if p[0] <= x), key=lambda p: (p[0], p[1]))
    after = [p for p in pts if p[0] > x]
    if not after:
        return lo[1]
    hi = min(after, key=lambda p: (p[0], p[1]))
    return lo[1] + (hi[1] - lo[1]) * (x - lo[0]) / (hi[0] - lo[0])


def pauc(pts, upper=5, mode="linear"):
    """Normalised partial area over [0, upper]; None when undefined."""
    if pts is None:
        return None
    U = Fr(upper)
    xs = sorted({f for f, _, _ in pts if f < U} | {U})
    area = Fr(0)
    for a, b in itertools.pairwise(xs):
        if mode == "step":
            area += (b - a) * sens_step(pts, a)
        elif mode == "linear":  # S is affine on [a, b)
            left = sens_linear(pts, a)
            mid = sens_linear(pts, (a + b) / 2)
            area += (b - a) * mid
            assert left <= mid
        else:
            raise ValueError(mode)
    return area / U


def pauc_by_counting(m: Matched, upper=5):
    """Independent formula for the linear mode (Mann-Whitney form).

    One FP slot after the other: slot j (j = 1..K, K = upper*N slots of width 1/N) sees the
    lesions strictly ahead of the j-th FP plus the polyline's mean share of the tied ones.
    Over a tie block that lies wholly inside the limit this equals the step area averaged
    over all orderings of the tied detections (checked in selftest); a block that the limit
    cuts is where the two differ.  Needs upper*N to be an integer.
    """
    L = len(m.lesion_score)
    if L == 0:
        return None
    K = Fr(upper) * m.n_cases
    assert K.denominator == 1
    K = int(K)
    found = [s for s in m.lesion_score if s is not None]
    fps = sorted(m.fp_score, reverse=True)
    total = Fr(0)
    for j in range(K):
        if j >= len(fps):
            total += len(found)
            continue
        t = fps[j]
        ahead = sum(s > t for s in found)
        tied_l = sum(s == t for s in found)
        tied_f = sum(s == t for s in fps)
        rank = j - sum(s > t for s in fps)  # 0-based place in its tie block
        # linear polyline: mean height over the slot
        total += ahead + Fr(tied_l) * (2 * rank + 1) / (2 * tied_f)
    return total / (K * L)


def cpm(pts, xs=LUNA_POINTS, mode="linear"):
    f = sens_linear if mode == "linear" else sens_step
    return None if pts is None else sum(f(pts, x) for x in xs) / len(xs)


# ---------------------------------------------------------------- case level
def resample(m: Matched, picks):
    """Matched data of a multiset of cases.  picks: list of case ids (with repeats)."""
    r = Matched(len(picks))
    for k, c in enumerate(picks):
        for cc, s in zip(m.lesion_case, m.lesion_score, strict=False):
            if cc == c:
                r.lesion_case.append((k, c))
                r.lesion_score.append(s)
        for cc, s in zip(m.fp_case, m.fp_score, strict=False):
            if cc == c:
                r.fp_case.append((k, c))
                r.fp_score.append(s)
    return r


def jackknife(m: Matched, cases, stat):
    return [stat(resample(m, [c for c in cases if c != d])) for d in cases]


def jafroc(m: Matched, cases, normal_only=True):
    """JAFROC figure of merit: P(lesion rating > highest FP rating of a (normal) case),
    ties 1/2; a missed lesion and an unmarked case rate minus infinity."""
    abnormal = set(m.lesion_case)
    comp = [c for c in cases if not (normal_only and c in abnormal)]
    if not comp or not m.lesion_score:
        return None
    tot = Fr(0)
    for c in comp:
        fs = [s for cc, s in zip(m.fp_case, m.fp_score, strict=False) if cc == c]
        z = max(fs) if fs else -math.inf
        for s in m.lesion_score:
            y = -math.inf if s is None else s
            tot += Fr(1) if y > z else (Fr(1, 2) if y == z else Fr(0))
    return tot / (len(comp) * len(m.lesion_score))


# ---------------------------------------------------------------- generator
def generate(seed, n_cases=6, ties=True, lattice=Fr(1, 4)):
    """A random small job with every nasty thing in it; all coordinates are multiples of
    `lattice` (exact in float64), so float and Fraction geometry must agree.
    Returns dict(cases, lesions, excluded, detections)."""
    rnd = random.Random(seed)
    q = float(lattice)

    def lat(lo, hi):
        return q * rnd.randint(int(lo / q), int(hi / q))

    cases = [f"c{i:02d}" for i in range(n_cases)]
    lesions, excluded, dets = [], [], []

    def score():
        if ties and rnd.random() < 0.7:
            return rnd.choice([0.0, 0.25, 0.5, 0.75, 1.0, -1.0])
        return rnd.uniform(-2, 2)

    for c in cases:
        for _ in range(rnd.choice([0, 0, 1, 1, 2, 3])):
            lesions.append(
                (
                    c,
                    lat(-20, 20),
                    lat(-20, 20),
                    lat(-20, 20),
                    rnd.choice([3.0, 4.5, 6.0, 10.0, 24.0]),
                )
            )
        for _ in range(rnd.choice([0, 1, 2])):
            excluded.append(
                (c, lat(-20, 20), lat(-20, 20), lat(-20, 20), rnd.choice([-1.0, 6.0, 12.0]))
            )
        if rnd.random() < 0.15:
            continue  # case without detections
        here = [f for f in lesions + excluded if f[0] == c]
        for _ in range(rnd.randint(0, 6)):
            dets.append((c, lat(-20, 20), lat(-20, 20), lat(-20, 20), score()))
        for f in here:
            for _ in range(rnd.choice([0, 1, 1, 2, 3])):  # near a finding, duplicates
                dets.append((c, f[1] + lat(-4, 4), f[2] + lat(-2, 2), f[3] + lat(-2, 2), score()))
            if rnd.random() < 0.3:  # exactly on the sphere: no hit when strict
                r = (f[4] if f[4] > 0 else DEFAULT_EXCLUDED_DIAMETER) / 2
                dets.append((c, f[1] + r, f[2], f[3], score()))
    rnd.shuffle(dets)
    return dict(cases=cases, lesions=lesions, excluded=excluded, detections=dets)


# ---------------------------------------------------------------- edge cases with known answers
A = ("a", 0.0, 0.0, 0.0)
EDGE = [
    # name, cases, lesions, excluded, detections, kwargs, linear and step pauc@5
    ("no detections", ["a"], [(*A, 6.0)], [], [], {}, Fr(0), Fr(0)),
    ("no lesions", ["a"], [], [], [(*A, 1.0)], {}, None, None),
    ("all hit, no FP", ["a"], [(*A, 6.0)], [], [(*A, 0.1)], {}, Fr(1), Fr(1)),
    (
        "hit below one FP",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, 0.1), ("a", 50.0, 0.0, 0.0, 0.9)],
        {},
        Fr(4, 5),
        Fr(4, 5),
    ),
    (
        "hit tied with one FP",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, 0.9), ("a", 50.0, 0.0, 0.0, 0.9)],
        {},
        Fr(9, 10),
        Fr(4, 5),
    ),
    (
        "duplicate hits ignored",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, 0.9), ("a", 1.0, 0.0, 0.0, 0.95)],
        {},
        Fr(1),
        Fr(1),
    ),
    (
        "duplicate hits as FP",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, 0.95), ("a", 1.0, 0.0, 0.0, 0.9)],
        dict(duplicates="fp"),
        Fr(1),
        Fr(1),
    ),
    (
        "on the sphere, strict",
        ["a"],
        [(*A, 6.0)],
        [],
        [("a", 3.0, 0.0, 0.0, 0.9)],
        {},
        Fr(0),
        Fr(0),
    ),
    (
        "on the sphere, inclusive",
        ["a"],
        [(*A, 6.0)],
        [],
        [("a", 3.0, 0.0, 0.0, 0.9)],
        dict(strict=False),
        Fr(1),
        Fr(1),
    ),
    (
        "excluded finding soaks up",
        ["a"],
        [(*A, 6.0)],
        [("a", 50.0, 0.0, 0.0, -1.0)],
        [(*A, 0.1), ("a", 51.0, 0.0, 0.0, 0.9)],
        {},
        Fr(1),
        Fr(1),
    ),
    ("included beats excluded", ["a"], [(*A, 6.0)], [(*A, 30.0)], [(*A, 0.1)], {}, Fr(1), Fr(1)),
    (
        "one detection, two lesions",
        ["a"],
        [(*A, 6.0), ("a", 2.0, 0.0, 0.0, 6.0)],
        [],
        [("a", 1.0, 0.0, 0.0, 0.5)],
        {},
        Fr(1),
        Fr(1),
    ),
    (
        "empty cases dilute FP",
        ["a", "b", "c", "d"],
        [(*A, 6.0)],
        [],
        [(*A, 0.1), ("b", 50.0, 0.0, 0.0, 0.9)],
        {},
        Fr(19, 20),
        Fr(19, 20),
    ),
    (
        "curve passes 5 FP before hit",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, 0.1)] + [("a", 50.0 + 20 * i, 0.0, 0.0, 0.9 - i / 100) for i in range(5)],
        {},
        Fr(0),
        Fr(0),
    ),
    (
        "tie block cut by the limit",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, 0.5)] + [("a", 50.0 + 20 * i, 0.0, 0.0, 0.5) for i in range(10)],
        {},
        Fr(1, 4),
        Fr(0),
    ),
    (
        "NaN dropped",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, 0.1), ("a", 50.0, 0.0, 0.0, float("nan"))],
        dict(nan="drop"),
        Fr(1),
        Fr(1),
    ),
    (
        "unknown case ignored",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, 0.1), ("zz", 50.0, 0.0, 0.0, 0.9)],
        dict(unknown="ignore"),
        Fr(1),
        Fr(1),
    ),
    (
        "negative (logit) scores",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, -3.0), ("a", 50.0, 0.0, 0.0, -4.0)],
        {},
        Fr(1),
        Fr(1),
    ),
    (
        "infinite scores",
        ["a"],
        [(*A, 6.0)],
        [],
        [(*A, math.inf), ("a", 50.0, 0.0, 0.0, -math.inf)],
        {},
        Fr(1),
        Fr(1),
    ),
]
EDGE_RAISES = [
    ("NaN score", ["a"], [(*A, 6.0)], [], [(*A, float("nan"))]),
    ("unknown case", ["a"], [(*A, 6.0)], [], [("zz", 0.0, 0.0, 0.0, 0.5)]),
    ("no cases", [], [], [], []),
    ("same case twice", ["a", "a"], [], [], []),
    ("lesion with zero diameter", ["a"], [(*A, 0.0)], [], []),
    ("NaN coordinate", ["a"], [(*A, 6.0)], [], [("a", float("nan"), 0.0, 0.0, 0.5)]),
]
