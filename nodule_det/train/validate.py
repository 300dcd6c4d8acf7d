"""Validation: whole held-out scans -> candidates -> FROC, and nothing of its own.

StoredScan ──predict_volume──▶ probability ──find_candidates──▶ candidates ──froc──▶ figures
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nodule_det import analysis, froc
from nodule_det.candidates import ScanCandidates, find_candidates
from nodule_det.config.train import TrainConfig
from nodule_det.data.scan import Finding
from nodule_det.data.store import StoredScan
from nodule_det.inference import predict_volume
from nodule_det.model import fuse
from nodule_det.train.distributed import World

NO_CANDIDATES = ScanCandidates(np.empty((0, 3)), np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Validation:
    """What a network finds in the held-out scans, and how good that is."""

    scans: tuple[StoredScan, ...]
    candidates: tuple[ScanCandidates, ...]
    """Of each scan, in the same order."""
    matched: froc.Matched
    """What became of each candidate and lesion, scan after scan."""
    froc: analysis.Froc

    @property
    def n_dropped(self) -> int:
        """Candidates that ``candidates.max_per_scan`` left out."""
        return sum(found.n_dropped for found in self.candidates)


def validate(
    model: nn.Module,
    scans: Sequence[StoredScan],
    config: TrainConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    world: World,
    go_on: Callable[[], bool] = lambda: True,
) -> Validation | None:
    """Run a network over whole scans, shared by the processes, and score what it finds.

    The network is left in the mode that it came in.

    Args:
        model: Network on ``device``.
        scans: Held-out scans.
        config: Settings of the run.
        device: Where to compute.
        dtype: Type of the forward pass.
        world: The processes that share the work; each gets the whole result.
        go_on: Asked after each scan of this process.

    Returns:
        The result, or None where ``go_on`` said no in any process.
    """
    training = model.training
    fused = fuse(model.eval())
    mine: list[tuple[int, ScanCandidates]] = []
    for i in range(world.rank, len(scans), world.size):
        mine.append((i, scan_candidates(fused, scans[i], config, device=device, dtype=dtype)))
        if not go_on():
            break
    model.train(training)
    found = dict(pair for share in world.gather(mine) for pair in share)
    if len(found) < len(scans):
        return None
    candidates = tuple(found[i] for i in range(len(scans)))
    matched = match(scans, candidates)
    result = analysis.analyse(
        matched,
        bootstrap=config.validation.bootstrap,
        seed=config.seed,
        patients={scan.series_uid: scan.patient_key for scan in scans},
    )
    return Validation(tuple(scans), candidates, matched, result)


def scan_candidates(
    model: nn.Module,
    scan: StoredScan,
    config: TrainConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> ScanCandidates:
    """Find the candidates of one stored scan; those outside the lungs are dropped."""
    region = predict_volume(model, config.model, scan.volume(), device=device, dtype=dtype)
    return find_candidates(region.probability, scan.grid, config.candidates, scan.search_mask())


def match(scans: Sequence[StoredScan], candidates: Sequence[ScanCandidates]) -> froc.Matched:
    """Set candidates against lesions by the definition of docs/froc.md."""
    return froc.match(
        [scan.series_uid for scan in scans],
        lesions_of(scans, excluded=False),
        froc.Candidates(
            case=_repeat(scans, [len(found) for found in candidates]),
            world_mm=np.concatenate([found.world_mm for found in candidates]),
            score=np.concatenate([found.score for found in candidates]),
        ),
        lesions_of(scans, excluded=True),
    )


def lesions_of(scans: Sequence[StoredScan], *, excluded: bool) -> froc.Lesions:
    """Return the lesions of scans, or their excluded findings, as FROC takes them."""
    chosen: list[tuple[str, Finding]] = [
        (scan.series_uid, f) for scan in scans for f in scan.findings if f.excluded is excluded
    ]
    return froc.Lesions(
        case=np.array([uid for uid, _ in chosen], dtype=np.str_),
        world_mm=np.array([f.center_mm for _, f in chosen], np.float64).reshape(-1, 3),
        diameter_mm=np.array([f.diameter_mm for _, f in chosen], np.float64),
    )


def _repeat(
    scans: Sequence[StoredScan], times: Sequence[int]
) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    return np.repeat(np.array([scan.series_uid for scan in scans], dtype=np.str_), times)
