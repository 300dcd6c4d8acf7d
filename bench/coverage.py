"""How often the 95 % interval of pAUC holds the truth, by simulation.

    OMP_NUM_THREADS=1 python bench/coverage.py [--repetitions 1000] [--cases 30 105 400]

Each repetition draws a data set and a detector's answer from a population whose true pAUC is known
from 200,000 cases: a case has 0 to 8 lesions (Poisson of a gamma mean: a few cases have many), an
ease of its own that moves all its lesions' scores, 9 in 10 lesions are hit at all, and its number
of false positives varies from case to case.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from nodule_det.analysis import Interval, analyse
from nodule_det.froc import Matched, froc_curve, pauc
from nodule_det.progress import track


def draw(n_cases: int, strength: float, rng: np.random.Generator) -> Matched:
    """Draw the outcome of a detector on new cases."""
    n_lesions = np.minimum(rng.poisson(rng.gamma(1.2, 1.1, n_cases)), 8)
    ease = rng.normal(0, 0.7, n_cases)
    lesion_case = np.repeat(np.arange(n_cases), n_lesions)
    score = rng.normal(strength, 1, len(lesion_case)) + ease[lesion_case]
    hit = rng.random(len(lesion_case)) < 0.9
    n_fp = rng.poisson(rng.gamma(2.0, 6.0, n_cases))
    fp_case = np.repeat(np.arange(n_cases), n_fp)
    return Matched(
        cases=np.array([f"{k:06d}" for k in range(n_cases)]),
        lesion_case=lesion_case,
        lesion_row=np.where(hit, np.arange(len(hit)), -1),
        lesion_score=np.where(hit, score, 0.0),
        fp_case=fp_case,
        fp_score=rng.normal(0, 1, len(fp_case)),
        fp_row=len(hit) + np.arange(len(fp_case)),
        excluded_row=np.empty(0, np.int64),
        repeated_row=np.empty(0, np.int64),
    )


def coverage(
    n_cases: int, strength: float, repetitions: int, interval: Interval, bootstrap: int
) -> tuple[float, float]:
    """Return the share of intervals that hold the truth, and their mean width."""
    truth = pauc(froc_curve(draw(200_000, strength, np.random.default_rng(999))))
    held, width = 0, 0.0
    for seed in track(range(repetitions), f"{n_cases} cases, {interval.value}", repetitions):
        found = draw(n_cases, strength, np.random.default_rng(seed))
        interval_of = analyse(found, bootstrap=bootstrap, seed=seed, interval=interval)
        if interval_of.pauc_interval is None:
            continue
        low, high = interval_of.pauc_interval
        held += low <= truth <= high
        width += high - low
    return held / repetitions, width / repetitions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--bootstrap", type=int, default=500)
    parser.add_argument("--cases", type=int, nargs="+", default=[30, 105, 400])
    parser.add_argument("--strength", type=float, nargs="+", default=[1.5, 3.0])
    parser.add_argument("--interval", nargs="+", default=[kind.value for kind in Interval])
    asked = parser.parse_args()
    print(f"{'cases':>6}{'strength':>9}  {'interval':<11}{'coverage':>9}{'+-':>7}{'width':>8}")
    for n_cases in asked.cases:
        for strength in asked.strength:
            for name in asked.interval:
                start = time.process_time()
                share, width = coverage(
                    n_cases, strength, asked.repetitions, Interval(name), asked.bootstrap
                )
                error = np.sqrt(share * (1 - share) / asked.repetitions)
                print(
                    f"{n_cases:6}{strength:9}  {name:<11}{share:9.3f}{error:7.3f}{width:8.3f}"
                    f"  ({time.process_time() - start:.0f} CPU s)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
