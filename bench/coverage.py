"""Coverage of the 95% CIs of FROC figures, by simulation.

    OMP_NUM_THREADS=1 python bench/coverage.py cells --out cells.jsonl
    OMP_NUM_THREADS=1 python bench/coverage.py cells --scans 15 30 105 --per-patient 3 --out p.jsonl
    OMP_NUM_THREADS=1 python bench/coverage.py merits --out merits.jsonl
    OMP_NUM_THREADS=1 python bench/coverage.py differences --repetitions 400 --out diff.jsonl
    python bench/coverage.py tables --out cells.jsonl

A cell has a number of scans, a true pAUC, a mean number of lesions per scan, and a reason why
lesions are missed: either all can be hit and the scores decide ("all"), or hit lesions score high
and the others are never hit ("miss").  A few scans have many lesions (Poisson with a Gamma mean),
the difficulty of a scan shifts the scores of all its lesions, and its number of false positives
varies (12 on average).  With patients, difficulty and false positives of a patient's scans are
correlated.

Weighted figures are computed here by one matrix product, which is faster with few lesions than the
package's sorted events.  Weights, pseudo-lesions and intervals are those of the package.  Before a
run, some data sets are computed entirely by the package, and the results must agree.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from scipy import stats

from nodule_det.analysis import analyse, compare, jafroc, wafroc
from nodule_det.analysis.bootstrap import Units, draw_weights, gamma_weights, units_of
from nodule_det.analysis.interval import gamma_intervals, logit_interval, pseudo_lesions
from nodule_det.froc import CPM_RATES, UPPER, Matched

FP_PER_SCAN = 12.0
RATES = np.array(CPM_RATES)
FIGURES = ("pAUC", "CPM", *(f"at {name}" for name in ("1/8", "1/4", "1/2", "1", "2", "4", "8")))
ORDER = (*FIGURES, "JAFROC", "wAFROC")


@dataclass(frozen=True)
class Population:
    """Scans and a detector; ``hit`` is the share of lesions that is hit at all."""

    pauc: float
    lesions: float
    hit: float
    per_patient: int = 1
    ease: float = 0.7

    def truth(self, strength: float) -> np.ndarray:
        """Return the true figures, in the order of FIGURES."""
        sd = np.sqrt(1 + self.ease**2 * (1 if self.per_patient == 1 else 2))
        quantiles = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
        fp = FP_PER_SCAN * stats.norm.sf(strength + sd * quantiles)
        at = [self.hit * np.mean(fp <= rate) for rate in RATES]
        return np.array([self.hit * np.maximum(0, 1 - fp / UPPER).mean(), np.mean(at), *at])

    def merit(self, strength: float) -> float:
        """Return the true JAFROC, which is also the true wAFROC: lesions of a scan are alike.

        The highest false positive of a scan stays below t in (1 + FP_PER_SCAN / 2 * P(X > t))^-2 of
        the scans, as their rates are Gamma distributed with shape 2.
        """
        sd = np.sqrt(1 + self.ease**2 * (1 if self.per_patient == 1 else 2))
        quantiles = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
        above = stats.norm.sf(strength + sd * quantiles)
        wins = ((1 + FP_PER_SCAN / 2 * above) ** -2.0).mean()
        draws = 0.5 * (1 + FP_PER_SCAN / 2) ** -2.0  # a missed lesion, and no false positive
        return float(self.hit * wins + (1 - self.hit) * draws)

    def strength(self) -> float:
        """Find how far lesions must score above false positives for the true pAUC."""
        low, high = -5.0, 12.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self.truth(middle)[0] < self.pauc else (low, middle)
        return middle


def draw(n: int, population: Population, strengths: list[float], rng) -> list[Matched]:
    """Draw the outcomes of detectors on the same n scans, of which one has a lesion at least.

    Two detectors share half of the noise of the scores and half of the misses.
    """
    patient = np.arange(n) // population.per_patient
    count = np.zeros(n, int)
    while not count.any():
        count = np.minimum(rng.poisson(rng.gamma(1.2, population.lesions / 1.2, n)), 12)
    ease = rng.normal(0, population.ease, n)
    rate = rng.gamma(2, FP_PER_SCAN / 2, patient[-1] + 1)[patient]
    if population.per_patient > 1:
        ease = ease + rng.normal(0, population.ease, patient[-1] + 1)[patient]
    case = np.repeat(np.arange(n), count)
    noise, luck = rng.normal(size=len(case)), rng.random(len(case))
    paired, found = len(strengths) > 1, []
    for strength in strengths:
        mixed = (noise + rng.normal(size=len(case))) / np.sqrt(2) if paired else noise
        own = rng.random(len(case)) < 0.5 if paired else np.zeros(len(case), bool)
        hit = np.where(own, rng.random(len(case)), luck) < population.hit
        fp_case = np.repeat(np.arange(n), rng.poisson(rate))
        found.append(
            Matched(
                cases=np.array([f"{k:06d}" for k in range(n)]),
                lesion_case=case,
                lesion_row=np.where(hit, np.arange(len(hit)), -1),
                lesion_score=np.where(hit, strength + ease[case] + mixed, 0.0),
                fp_case=fp_case,
                fp_score=rng.normal(size=len(fp_case)),
                fp_row=len(hit) + np.arange(len(fp_case)),
                excluded_row=np.empty(0, np.int64),
                repeated_row=np.empty(0, np.int64),
            )
        )
    return found


class Fast:
    """Figures of one data set under many weights, by one matrix product."""

    def __init__(self, matched: Matched) -> None:
        order = np.argsort(-matched.lesion_score[matched.found])
        score = matched.lesion_score[matched.found][order]
        self.case = matched.lesion_case[matched.found][order]
        first = np.searchsorted(-score, -matched.fp_score)
        above = np.zeros((matched.n_cases, len(score) + 1), np.float32)
        np.add.at(above, (matched.fp_case, first), 1)
        self.above = np.cumsum(above, axis=1)[:, :-1]
        self.lesions = np.bincount(matched.lesion_case, minlength=matched.n_cases).astype(float)
        self.unfound = matched.lesion_case[~matched.found]

    def figures(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (b, 9) figures and (b,) weights of the lesions, where there are any."""
        lesions = weights @ self.lesions
        weights, lesions = weights[lesions > 0], lesions[lesions > 0]
        w = weights.astype(np.float32)
        fp, wl = (w @ self.above) / w.sum(axis=1, keepdims=True), w[:, self.case]
        area = np.einsum("ij,ij->i", wl, np.maximum(0, 1 - fp / np.float32(UPPER)))
        at = [np.einsum("ij,ij->i", wl, fp <= rate * (1 + 1e-6)) for rate in RATES]
        return np.column_stack([area, np.mean(at, axis=0), *at]) / lesions[:, None], lesions

    def worth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (n_lesions, 9) what each lesion adds to each figure, and the scan of each."""
        fp = np.append(self.above.sum(axis=0) / len(self.above), np.full(len(self.unfound), np.inf))
        at = fp[:, None] <= RATES
        worth = np.column_stack([np.maximum(0, 1 - fp / UPPER), at.mean(axis=1), at])
        return worth, np.append(self.case, self.unfound)


def intervals(matched: Matched, units: Units, n: int, rng) -> dict[str, np.ndarray]:
    """Return (9, 2) intervals of each method."""
    fast = Fast(matched)
    values = fast.figures(np.ones((1, matched.n_cases)))[0][0]
    figures, lesions = fast.figures(gamma_weights(units, n, rng))
    worth, case = fast.worth()
    pseudo = pseudo_lesions(worth, units.of_case[case])
    bounds = gamma_intervals(values, figures, lesions, pseudo, rng.standard_exponential(n))
    drawn, _ = fast.figures(draw_weights(units, n, rng))
    logit = [logit_interval(v, c, matched.n_lesions) for v, c in zip(values, drawn.T, strict=True)]
    return {"gamma": np.column_stack([bounds.low, bounds.high]), "logit": np.array(logit)}


def check() -> None:
    """Compare with the package on data sets of the simulation."""
    population = Population(0.8, 1, 0.9)
    for seed in range(5):
        (found,) = draw(30, population, [population.strength()], np.random.default_rng(seed))
        froc = analyse(found, bootstrap=300, seed=seed)
        ours = intervals(found, units_of(found.cases), 300, np.random.default_rng(seed))["gamma"]
        theirs = [froc.pauc_interval, froc.cpm_interval, *froc.sensitivity_interval]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)
        np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-5)


def hit_share(shape: str, pauc: float) -> float:
    return 1.0 if shape == "all" else 0.999 * pauc + 0.001


def run_cells(asked: argparse.Namespace) -> None:
    """Simulate each cell; a row of the output is a figure of a cell by a method."""
    for n, pauc, lesions, shape in product(asked.scans, asked.pauc, asked.lesions, ("all", "miss")):
        population = Population(pauc, lesions, hit_share(shape, pauc), asked.per_patient)
        strength = population.strength()
        truth, start = population.truth(strength), time.process_time()
        missed: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((len(FIGURES), 3)))
        for seed in range(asked.first_seed, asked.first_seed + asked.repetitions):
            rng = np.random.default_rng([seed, n, round(1000 * pauc), round(10 * lesions)])
            (found,) = draw(n, population, [strength], rng)
            patients = {c: f"{int(c) // asked.per_patient:06d}" for c in found.cases.tolist()}
            units = units_of(found.cases, patients)
            for method, ends in intervals(found, units, asked.bootstrap, rng).items():
                low, high = ends.T
                outside = [truth < low - 1e-12, truth > high + 1e-12, high - low]
                missed[method] += np.column_stack(outside)
        cell = {"n": n, "pauc": pauc, "lesions": lesions, "shape": shape}
        with asked.out.open("a") as f:
            for method, sums in missed.items():
                for name, row in zip(FIGURES, sums / asked.repetitions, strict=True):
                    record = {"figure": name, "method": method, "reps": asked.repetitions}
                    ends = dict(zip(("below", "above", "width"), row.tolist(), strict=True))
                    f.write(json.dumps(cell | record | ends) + "\n")
        print(*cell.values(), f"{time.process_time() - start:.0f} CPU s", flush=True)


def run_merits(asked: argparse.Namespace) -> None:
    """Simulate the CIs of JAFROC and wAFROC; data sets without a healthy scan have neither."""
    for n, pauc, lesions, shape in product(asked.scans, asked.pauc, asked.lesions, ("all", "miss")):
        population = Population(pauc, lesions, hit_share(shape, pauc))
        strength = population.strength()
        truth, start = population.merit(strength), time.process_time()
        ends: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for seed in range(asked.first_seed, asked.first_seed + asked.repetitions):
            rng = np.random.default_rng([seed, n, round(1000 * pauc), round(10 * lesions)])
            (found,) = draw(n, population, [strength], rng)
            for name, merit in (("JAFROC", jafroc), ("wAFROC", wafroc)):
                interval = merit(found, bootstrap=asked.bootstrap, seed=seed).interval
                if interval is not None:
                    ends[name].append(interval)
        cell = {"n": n, "pauc": pauc, "lesions": lesions, "shape": shape}
        with asked.out.open("a") as f:
            for name, pairs in ends.items():
                low, high = np.array(pairs).T
                record = {
                    "figure": name,
                    "method": "gamma",
                    "reps": len(pairs),
                    "below": float(np.mean(truth < low - 1e-12)),
                    "above": float(np.mean(truth > high + 1e-12)),
                    "width": float(np.mean(high - low)),
                }
                f.write(json.dumps(cell | record) + "\n")
        print(*cell.values(), f"{time.process_time() - start:.0f} CPU s", flush=True)


def run_differences(asked: argparse.Namespace) -> None:
    """Simulate pairs of detectors, with and without a difference."""
    for n, (pauc, gain), shape in product(
        asked.scans,
        ((0.5, 0), (0.8, 0), (0.95, 0), (0.5, 0.1), (0.8, 0.1), (0.95, 0.04)),
        ("all", "miss"),
    ):
        if gain and shape == "miss":
            continue
        first = Population(pauc, 1.0, hit_share(shape, pauc))
        second = replace(first, pauc=pauc + gain)
        strengths = [first.strength(), second.strength()]
        true = second.truth(strengths[1]) - first.truth(strengths[0])
        sums, start = np.zeros((2, 4)), time.process_time()
        for seed in range(asked.first_seed, asked.first_seed + asked.repetitions):
            pair = draw(n, first, strengths, np.random.default_rng([seed, n]))
            done = compare(*pair, bootstrap=300, permutations=199, seed=seed)
            for j, d in enumerate((done.pauc, done.cpm)):
                low, high = d.interval
                held = low - 1e-12 <= true[j] <= high + 1e-12
                sums[j] += [held, not low <= 0 <= high, d.p_value <= 0.05, high - low]
        cell = {"n": n, "pauc": pauc, "gain": gain, "shape": shape}
        with asked.out.open("a") as f:
            for name, row in zip(("pAUC", "CPM"), sums / asked.repetitions, strict=True):
                names = ("coverage", "excludes_0", "test_significant", "width")
                record = {"figure": name, "reps": asked.repetitions}
                f.write(
                    json.dumps(cell | record | dict(zip(names, row.tolist(), strict=True))) + "\n"
                )
        print(*cell.values(), f"{time.process_time() - start:.0f} CPU s", flush=True)


def print_tables(asked: argparse.Namespace) -> None:
    """Print Markdown: each figure by scans (least / mean coverage, width), then pAUC by cell."""
    rows = [json.loads(line) for line in asked.out.read_text().splitlines()]
    if "gain" in rows[0]:
        print(
            "| figure | scans | pAUC | shape | coverage, width | CI excludes 0 | test p <= 0.05 |"
        )
        print("| --- " * 7 + "|")
        for r in rows:
            pauc = f"{r['pauc']:g} and {r['pauc'] + r['gain']:g}"
            held = f"{r['coverage']:.3f}, {r['width']:.2f}"
            last = f"{r['excludes_0']:.3f} | {r['test_significant']:.3f}"
            print(f"| {r['figure']} | {r['n']} | {pauc} | {r['shape']} | {held} | {last} |")
        return
    scans = sorted({r["n"] for r in rows})
    print(f"{rows[0]['reps']} repetitions a cell; least / mean coverage of all cells, mean width\n")
    pairs = dict.fromkeys((r["figure"], r["method"]) for r in rows)
    print("| figure | CI | " + " | ".join(f"{n} scans" for n in scans) + " |")
    print("| --- " * (2 + len(scans)) + "|")
    for name, method in sorted(pairs, key=lambda pair: (ORDER.index(pair[0]), pair[1] != "logit")):
        line = []
        for n in scans:
            of = [r for r in rows if (r["figure"], r["method"], r["n"]) == (name, method, n)]
            held = np.array([1 - r["below"] - r["above"] for r in of])
            width = np.mean([r["width"] for r in of])
            line.append(f"{held.min():.3f} / {held.mean():.3f}, {width:.2f}")
        print(f"| {name} | {method} | " + " | ".join(line) + " |")
    if ("pAUC", "logit") not in pairs:
        return
    columns = sorted({(r["lesions"], r["shape"]) for r in rows})
    print("\n| scans | pAUC | " + " | ".join(f"{n:g} {shape}" for n, shape in columns) + " |")
    print("| --- " * (2 + len(columns)) + "|")
    held = {
        (r["method"], r["n"], r["pauc"], r["lesions"], r["shape"]): 1 - r["below"] - r["above"]
        for r in rows
        if r["figure"] == "pAUC"
    }
    for n, pauc in product(scans, sorted({r["pauc"] for r in rows})):
        cells = (
            f"{held['logit', n, pauc, *c]:.3f} → {held['gamma', n, pauc, *c]:.3f}" for c in columns
        )
        print(f"| {n} | {pauc:g} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["cells", "merits", "differences", "tables"])
    parser.add_argument("--scans", type=int, nargs="+", default=[5, 10, 30, 105, 400])
    parser.add_argument("--pauc", type=float, nargs="+", default=[0.5, 0.8, 0.95, 0.99])
    parser.add_argument("--lesions", type=float, nargs="+", default=[0.3, 1.0, 3.0])
    parser.add_argument("--per-patient", type=int, default=1, help="scans of a patient")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0, help="for fresh random numbers")
    parser.add_argument("--bootstrap", type=int, default=400)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended")
    asked = parser.parse_args()
    if asked.command == "tables":
        print_tables(asked)
        return
    check()
    run = {"cells": run_cells, "merits": run_merits, "differences": run_differences}
    run[asked.command](asked)


if __name__ == "__main__":
    main()
