"""Speed of the FROC analysis, compared with MONAI's curve for the same job in the same run.

    OMP_NUM_THREADS=1 python bench/froc.py [--candidates 500000] [--out froc-bench.json]
    OMP_NUM_THREADS=1 python bench/froc.py --scan-by-scan 2 --candidates 10000000

888 cases, 1,186 lesions (LUNA16's numbers) and random candidates in LUNA16's CSV format.  CPU
seconds of one thread (set OMP_NUM_THREADS=1): reading the CSV files, matching, the curve, 1,000
bootstrap resamples; then MONAI's ``compute_froc_curve_data`` alone, on arrays that are ready.

``--scan-by-scan N`` has each scan made and matched by itself in N processes and the outcomes
merged: wall seconds, and the largest memory of the process that merges and of those that match.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from nodule_det.analysis import analyse, merge
from nodule_det.evaluate.reading import read_job
from nodule_det.froc import Candidates, Lesions, Matched, froc_curve, match, pauc
from nodule_det.tables import ANNOTATION_COLUMNS, CANDIDATE_COLUMNS, write_table

N_CASES, N_LESIONS, FOUND = 888, 1186, 0.9


def write_job(folder: Path, n_candidates: int, rng: np.random.Generator) -> None:
    """Write a job in LUNA16's formats; one lesion in ten is missed."""
    cases = np.array([f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{k:036d}" for k in range(N_CASES)])
    (folder / "scans.csv").write_text("\n".join(cases) + "\n")
    of_lesion = cases[rng.integers(N_CASES, size=N_LESIONS)]
    places = rng.uniform(-180, 180, (N_LESIONS, 3))
    sizes = np.exp(rng.normal(1.99, 0.47, N_LESIONS))
    write_table(folder / "annotations.csv", ANNOTATION_COLUMNS, table(of_lesion, places, sizes))
    found = rng.random(N_LESIONS) < FOUND
    n_false = n_candidates - int(found.sum())
    case = np.concatenate([of_lesion[found], cases[rng.integers(N_CASES, size=n_false)]])
    place = np.concatenate([places[found], rng.uniform(-180, 180, (n_false, 3))])
    score = np.concatenate([rng.beta(6, 1, found.sum()), rng.beta(0.3, 3, n_false)])
    order = rng.permutation(n_candidates)
    rows = table(case[order], place[order], score[order])
    write_table(folder / "candidates.csv", CANDIDATE_COLUMNS, rows)


def table(case, place, number):
    return ((c, *p, n) for c, p, n in zip(case, place.round(4).tolist(), number, strict=True))


def time_ours(folder: Path) -> tuple[dict[str, float], object]:
    seconds = {}
    start = time.process_time()

    def lap(name: str) -> None:
        nonlocal start
        seconds[name], start = time.process_time() - start, time.process_time()

    names = ("candidates.csv", "annotations.csv", "scans.csv")
    job = read_job(*(folder / name for name in names), None)
    lap("read CSV")
    matched = match(job.cases, job.lesions, job.candidates)
    lap("match")
    area = pauc(froc_curve(matched))
    lap("curve and pAUC")
    froc = analyse(matched, bootstrap=1000)
    lap("all figures, 1,000 resamples")
    assert froc.pauc == area
    return seconds, matched


def time_monai(matched) -> float:
    """Time MONAI's curve on what the candidates hit; false positives and hits are ready arrays."""
    from monai.metrics import compute_froc_curve_data

    hits = matched.lesion_score[matched.found]
    start = time.process_time()
    compute_froc_curve_data(matched.fp_score, hits, matched.n_lesions, matched.n_cases)
    return time.process_time() - start


def match_one(scan: int, n_candidates: int) -> Matched:
    """Make the candidates of one scan and match them."""
    rng = np.random.default_rng(scan)
    n_lesions = N_LESIONS * (scan + 1) // N_CASES - N_LESIONS * scan // N_CASES
    places = rng.uniform(-180, 180, (n_lesions, 3))
    found = places[rng.random(n_lesions) < FOUND]
    points = np.concatenate([found, rng.uniform(-180, 180, (n_candidates - len(found), 3))])
    score = np.concatenate([rng.beta(6, 1, len(found)), rng.beta(0.3, 3, len(points) - len(found))])
    uid = f"scan{scan:04d}"
    sizes = np.exp(rng.normal(1.99, 0.47, n_lesions))
    lesions = Lesions(np.full(n_lesions, uid), places, sizes)
    return match([uid], lesions, Candidates(np.full(len(points), uid), points, score))


def scan_by_scan(n_candidates: int, processes: int) -> None:
    """Evaluate in processes, merge, and print what that took."""
    start = time.perf_counter()
    one = partial(match_one, n_candidates=n_candidates // N_CASES)
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        merged = merge(pool.map(one, range(N_CASES), chunksize=1))
    froc = analyse(merged, bootstrap=1000)
    seconds = time.perf_counter() - start
    print(
        f"{merged.n_rows} candidates of {N_CASES} scans by {processes} processes: {seconds:.1f} s"
    )
    print(f"pAUC {froc.pauc!r}, interval {froc.pauc_interval!r}")
    for who, name in (("merging", resource.RUSAGE_SELF), ("matching", resource.RUSAGE_CHILDREN)):
        print(f"largest memory, {who:<10}{resource.getrusage(name).ru_maxrss / 1024:9.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=500_000)
    parser.add_argument("--no-monai", action="store_true")
    parser.add_argument("--scan-by-scan", type=int, metavar="PROCESSES")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.scan_by_scan:
        scan_by_scan(asked.candidates, asked.scan_by_scan)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_job(Path(folder), asked.candidates, np.random.default_rng(0))
        seconds, matched = time_ours(Path(folder))
    seconds["total"] = sum(seconds.values())
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{asked.candidates} candidates, {N_CASES} cases, {N_LESIONS} lesions")
    if not asked.no_monai:
        seconds["MONAI's curve"] = time_monai(matched)
        ratio = seconds["MONAI's curve"] / seconds["curve and pAUC"]
        print(f"curve and pAUC are {ratio:.0f} times as fast as MONAI's curve")
    for name, s in seconds.items():
        print(f"{name:<30}{s:9.3f} s")
    print(f"{'largest memory':<30}{peak_mib:9.0f} MiB")
    if asked.out:
        asked.out.write_text(json.dumps(seconds | {"peak_mib": peak_mib}, indent=1) + "\n")


if __name__ == "__main__":
    main()
