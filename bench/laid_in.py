"""Lay phantom lesions into a real scan, and see which of them a network finds.

    python bench/laid_in.py store=STORE model=builtin [copies=6 per_copy=10 seed=0]

STORE holds the real scan, ingested with its annotations.  Each copy of the scan gets ``per_copy``
lesions of ``phantom.shapes=lidc`` at free places in its lungs, blurred and grainy like the scan
itself.  Lesions that the scan has anyway count as excluded findings.  False positives are those of
one scan, so their rate says little about others.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from scipy import ndimage

from nodule_det import analysis, froc
from nodule_det.candidates import find_candidates
from nodule_det.config.data import PhantomShapes
from nodule_det.config.train import CandidateConfig
from nodule_det.data.phantom.anatomy import Chest
from nodule_det.data.phantom.canvas import Lattice, Tubes
from nodule_det.data.phantom.lungs import Lungs
from nodule_det.data.phantom.nodules import Placed, paint, place
from nodule_det.data.phantom.statistics import draw_nodule
from nodule_det.data.store import StoredScan, open_store
from nodule_det.ensemble.folder import named_model
from nodule_det.ensemble.members import load_ensemble

BLUR_VOX, GRAIN_VOX = 0.6, 0.7
"""Standard deviations of the point spread and of the noise's grain."""

VESSEL_HU, LUNG_HU = -500, -400
N_VESSELS = 4000


def empty_lungs(scan: StoredScan, rng: np.random.Generator) -> tuple[Chest, Lungs, Tubes]:
    """Describe a real scan as the phantom describes its own: depth in the lung, vessels."""
    hu = np.array(scan.volume(), np.float32)
    lattice = Lattice(scan.grid.size_vox, scan.grid.spacing_mm)
    lung = ndimage.binary_closing(hu < LUNG_HU, iterations=2) & scan.search_mask()
    lung = ndimage.binary_fill_holes(ndimage.binary_opening(lung, iterations=2))
    depth = ndimage.distance_transform_edt(lung) - ndimage.distance_transform_edt(~lung)
    depth_mm = np.clip(depth, -12, None).astype(np.float32)
    nothing = np.zeros((1, 1, 1), np.float32)
    box = tuple(slice(0, n) for n in hu.shape)
    lungs = Lungs(box, lattice, hu, nothing, nothing, depth_mm)  # type: ignore[arg-type]
    dense = np.argwhere((hu > VESSEL_HU) & (depth_mm > 6))
    ends = rng.choice(dense, min(N_VESSELS, len(dense)), replace=False).astype(np.float64)
    ones = np.ones(len(ends))
    chest = Chest(lattice, hu, depth_mm, (0.0, 0.0, 0.0), 1.0, 1.0)
    return chest, lungs, Tubes(ends, ends, ones, ones)


def laid_in(scan: StoredScan, n: int, seed: int) -> tuple[np.ndarray, list[Placed]]:
    """Return a copy of the scan with ``n`` lesions in it, and where they are."""
    rng = np.random.default_rng(seed)
    chest, lungs, vessels = empty_lungs(scan, rng)
    before = lungs.hu.copy()
    own = [
        Placed(draw_nodule(rng), scan.grid.to_voxel(f.center_mm) * scan.grid.spacing_mm)
        for f in scan.findings
    ]
    placed: list[Placed] = []
    while len(placed) < n:
        nodule = draw_nodule(rng, PhantomShapes.lidc)
        found = place(nodule, chest, vessels, lungs, own + placed, rng)
        if found is not None:
            placed.append(found)
            paint(found, lungs, rng)
    change = ndimage.gaussian_filter(lungs.hu - before, BLUR_VOX)
    share = np.clip(np.abs(change) / 300, 0, 1)
    noise = ndimage.gaussian_filter(rng.standard_normal(before.shape, dtype=np.float32), GRAIN_VOX)
    noise *= share * (noise_hu(before, chest.lung_depth_mm) / noise.std())
    return np.rint(before + change + noise).clip(-1024, 3071).astype(np.int16), placed


def noise_hu(hu: np.ndarray, depth_mm: np.ndarray) -> float:
    """Measure the noise between neighbours in the lung, by the median of their differences."""
    step = np.diff(hu, axis=2)[(depth_mm[:, :, 1:] > 3) & (hu[:, :, 1:] < -750)]
    return float(1.4826 * np.median(np.abs(step - np.median(step))) / np.sqrt(2))


def main(words: list[str]) -> None:
    """Lay in, search, and print the figures."""
    given = dict(word.split("=", 1) for word in words)
    scan = open_store(given["store"]).scans[0]
    copies, per_copy = int(given.get("copies", 6)), int(given.get("per_copy", 10))
    seed = int(given.get("seed", 0))
    model = given.get("model", "builtin")
    named = named_model("", [model]) if model.endswith(".pt") else named_model(model, [])
    files = named.members
    ensemble = load_ensemble(files, torch.device("cpu"), torch.float32)
    case, world, diameter, found = [], [], [], []
    for copy in range(copies):
        volume, placed = laid_in(scan, per_copy, seed + copy)
        begun = time.process_time()
        region = ensemble.probability(volume)
        search = scan.search_mask()
        found.append(find_candidates(region.probability, scan.grid, CandidateConfig(), search))
        for one in placed:
            case.append(str(copy))
            world.append(scan.grid.to_world(one.center_mm / scan.grid.spacing_mm))
            diameter.append(one.nodule.diameter_mm)
        print(f"copy {copy}: {time.process_time() - begun:.0f} CPU s", flush=True)
    lesions = froc.Lesions(np.array(case), np.array(world), np.array(diameter))
    own = [f for f in scan.findings]
    excluded = froc.Lesions(
        np.repeat([str(copy) for copy in range(copies)], len(own)),
        np.array([f.center_mm for f in own] * copies).reshape(-1, 3),
        np.array([f.diameter_mm for f in own] * copies),
    )
    candidates = froc.Candidates(
        np.repeat([str(copy) for copy in range(copies)], [len(f) for f in found]),
        np.concatenate([f.world_mm for f in found]),
        np.concatenate([f.score for f in found]),
    )
    matched = froc.match([str(copy) for copy in range(copies)], lesions, candidates, excluded)
    curve = froc.froc_curve(matched)
    at = froc.sensitivity_at(curve, [0.5, 1, 2, 4, 8])
    result = analysis.analyse(matched)
    print(f"{len(case)} lesions in {copies} copies; false positives {len(matched.fp_score)}")
    print("sensitivity at 0.5, 1, 2, 4, 8 FP per scan: " + ", ".join(f"{v:.2f}" for v in at))
    print(f"pAUC up to 5 FP: {result.pauc:.3f}, CPM {result.cpm:.3f}")
    large = np.array(diameter) >= 6
    hit = np.isfinite(matched.lesion_score) & (
        matched.lesion_score >= froc.threshold_at(curve, [1.0])[0]
    )
    if len(hit) == len(large):
        print(f"at 1 FP: {hit[large].mean():.2f} of 6 mm and more, {hit[~large].mean():.2f} below")


if __name__ == "__main__":
    main(sys.argv[1:])
