"""FROC of a network before and after one lesion gives one candidate, paired.

    python bench/one_candidate.py store=STORE checkpoint=best.pt [fold=0 max_scans=40]

"Before" merges peaks by their distance alone, as the package did up to 59d8a5c; "after" is
``find_candidates``.  Both search the same probability volumes of the fold's scans.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from nodule_det.analysis import compare
from nodule_det.candidates import REACH_MM, HostVolume, ScanCandidates, _apart, _middles
from nodule_det.candidates import find_candidates as after
from nodule_det.config.train import CandidateConfig
from nodule_det.data.store import StoredScan, open_store
from nodule_det.ensemble.members import load_ensemble
from nodule_det.train.validate import match

CONFIG = CandidateConfig()


def before(probability: np.ndarray, scan: StoredScan, search: np.ndarray) -> ScanCandidates:
    """Merge peaks by distance, and measure each in the voxels that reach half of it."""
    grid, volume = scan.grid, HostVolume(probability)
    voxels, score = volume.peaks(CONFIG.threshold)
    kept = _middles(voxels, volume.shape)
    kept = kept[search[tuple(voxels[kept].T)]]
    kept = kept[np.argsort(-score[kept], kind="stable")]
    voxels, score = voxels[kept], score[kept]
    apart = _apart(grid.to_world(voxels), CONFIG.merge_mm)[: CONFIG.max_per_scan]
    voxels, score = voxels[apart], score[apart]
    z, y, x = (int(REACH_MM / s) for s in grid.spacing_mm)
    centers = []
    for cube, voxel, peak in zip(volume.cubes(voxels, (z, y, x)), voxels, score, strict=True):
        labels, _ = ndimage.label(cube >= peak / 2)
        own = np.argwhere(labels == labels[z, y, x])
        centers.append(np.average(own, axis=0, weights=cube[tuple(own.T)]) + voxel - (z, y, x))
    world_mm = grid.to_world(np.array(centers).reshape(-1, 3))
    kept = _apart(world_mm, CONFIG.merge_mm)
    return ScanCandidates(world_mm[kept], score[kept].astype(np.float64), np.zeros(len(kept)))


def main(words: Sequence[str]) -> None:
    """Search the scans both ways, and print both figures and their difference."""
    given = dict(word.split("=", 1) for word in words)
    scans = open_store(given["store"]).validation(int(given.get("fold", 0)))
    scans = scans[: int(given.get("max_scans", len(scans)))]
    cpu = torch.device("cpu")
    ensemble = load_ensemble([Path(given["checkpoint"])], cpu, torch.float32)
    found: tuple[list[ScanCandidates], list[ScanCandidates]] = ([], [])
    for scan in scans:
        probability = ensemble.probability(scan.volume()).probability
        search = scan.search_mask()
        found[0].append(before(probability, scan, search))
        found[1].append(after(probability, scan.grid, CONFIG, search))
        print(".", end="", flush=True)
    matched = [match(scans, candidates) for candidates in found]
    result = compare(*matched)
    counts = [f"{len(m.fp_score)} false positives, {m.found.sum()} found" for m in matched]
    print(f"\n{result.n_lesions} lesions in {len(scans)} scans; {counts[0]} -> {counts[1]}")
    high = [int((m.fp_score > 0.6).sum()) for m in matched]
    print(f"false positives with a score above 0.6: {high[0]} -> {high[1]}")
    print("pAUC", result.pauc)
    away = [_away_mm(scans, candidates) for candidates in found]
    print(f"median distance of the centre (mm): {away[0]:.2f} -> {away[1]:.2f}")


def _away_mm(scans: Sequence[StoredScan], found: Sequence[ScanCandidates]) -> float:
    """Return the median distance between lesions and the nearest candidate inside them."""
    away = []
    for scan, candidates in zip(scans, found, strict=True):
        for lesion in scan.lesions:
            if len(candidates):
                mm = np.linalg.norm(candidates.world_mm - lesion.center_mm, axis=1).min()
                away += [mm] if mm <= lesion.diameter_mm / 2 else []
    return float(np.median(away))


if __name__ == "__main__":
    main(sys.argv[1:])
