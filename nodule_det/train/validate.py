"""Validation: whole held-out scans -> candidates -> FROC.

StoredScan ──network──▶ probability ──find_candidates──▶ candidates ──froc──▶ figures
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nodule_det import analysis, froc
from nodule_det.candidates import ScanCandidates
from nodule_det.config.train import TrainConfig
from nodule_det.data.scan import Finding
from nodule_det.data.store import StoredScan
from nodule_det.model import (
    ReceptiveField,
    for_inference,
    large_blocks_returned,
    release_freed_pages,
)
from nodule_det.train.detector import Detector, make_detector
from nodule_det.train.distributed import World
from nodule_det.train.partial import PartialValidation

log = logging.getLogger("nodule_det.train")


@dataclass(frozen=True)
class Validation:
    """Candidates of a network in the held-out scans, and their FROC figures."""

    scans: tuple[StoredScan, ...]
    candidates: tuple[ScanCandidates, ...]
    """Of each scan, in the same order."""
    matched: froc.Matched
    """Outcome of each candidate and lesion, scan by scan."""
    froc: analysis.Froc

    @property
    def n_dropped(self) -> int:
        """Candidates discarded because of ``candidates.max_per_scan``."""
        return sum(found.n_dropped for found in self.candidates)


def validate(
    model: nn.Module,
    scans: Sequence[StoredScan],
    config: TrainConfig,
    field: ReceptiveField,
    *,
    device: torch.device,
    dtype: torch.dtype,
    world: World,
    proceed: Callable[[float], bool] = lambda scan_s: True,
    partial: PartialValidation | None = None,
) -> Validation | None:
    """Run a network over whole scans, shared by the processes, and score its candidates.

    The network's training mode is restored afterwards.

    Args:
        model: Network on ``device``.
        scans: Held-out scans.
        config: Settings of the run.
        field: Receptive field of the network.
        device: Where to compute.
        dtype: Type of the forward pass.
        world: The processes that share the work; each receives the whole result.
        proceed: Called after each scan of this process with its duration in seconds; False
            interrupts the validation.
        partial: Scans that are already done; each new one is added.

    Returns:
        The result, or None if ``proceed`` returned False in any process.
    """
    training = model.training
    fast = for_inference(model.eval(), config.model)
    searcher = Searcher(make_detector(fast, config, field, device, dtype), device)
    done = {} if partial is None else dict(partial.found)
    todo = [i for i, scan in enumerate(scans) if scan.series_uid not in done]
    mine: dict[str, ScanCandidates] = {}
    begun_s = time.monotonic()
    mine_todo = [scans[i] for i in todo[world.rank :: world.size]]
    with large_blocks_returned(), closing(searcher.search(mine_todo)) as searched:
        for scan, found in searched:
            mine[scan.series_uid] = found
            if partial is not None:
                partial.add(scan.series_uid, found)
            now_s = time.monotonic()
            if not proceed(now_s - begun_s):
                break
            begun_s = now_s
    model.train(training)
    for share in world.gather(mine):
        done |= share
    if len(done) < len(scans):
        return None
    begun_s = time.monotonic()
    candidates = tuple(done[scan.series_uid] for scan in scans)
    matched = match(scans, candidates)
    result = analysis.analyse(
        matched,
        bootstrap=config.validation.bootstrap,
        seed=config.seed,
        patients={scan.series_uid: scan.patient_key for scan in scans},
    )
    log.info("FROC of %d scans in %.2f s", len(scans), time.monotonic() - begun_s)
    return Validation(tuple(scans), candidates, matched, result)


class Searcher:
    """Finds the candidates of stored scans one by one, only inside the lungs.

    While the device works on one scan, a thread reads the next one, and another thread measures
    the peaks of the previous one.  On a GPU each thread has its own stream: otherwise the peaks
    would wait until the next scan has been searched.

    Args:
        detector: What finds them.
        device: Where it searches.
    """

    def __init__(self, detector: Detector, device: torch.device) -> None:
        self._detector, self._device = detector, device
        self._copies = self._measures = None
        if device.type == "cuda":
            self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._measures = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]

    def search(
        self, scans: Sequence[StoredScan]
    ) -> Generator[tuple[StoredScan, ScanCandidates], None, None]:
        """Yield each scan with its candidates, in order."""
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "measure") as measurer:
            volumes = [reader.submit(self._read, scan) for scan in scans[:1]]
            found: Future[ScanCandidates] | None = None
            for i, scan in enumerate(scans):
                volume, copied = volumes.pop().result()
                volumes += [reader.submit(self._read, after) for after in scans[i + 1 : i + 2]]
                if copied is not None:
                    stream = torch.cuda.current_stream(self._device)
                    stream.wait_event(copied)
                    volume.record_stream(stream)
                with torch.no_grad():
                    on_device = self._detector.search(volume)
                if found is not None:
                    yield scans[i - 1], found.result()
                release_freed_pages()
                searched = None
                if self._measures is not None:
                    searched = torch.cuda.current_stream(self._device).record_event()
                found = measurer.submit(self._candidates, scan, on_device, searched)
            if found is not None:
                yield scans[-1], found.result()

    def _read(self, scan: StoredScan) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        """Read a scan and begin to copy it to the device; returns the event after the copy."""
        volume = torch.from_numpy(np.array(scan.volume()))
        if self._copies is None:
            return volume, None
        with torch.cuda.stream(self._copies):
            on_device = volume.pin_memory().to(self._device, non_blocking=True)
            return on_device, self._copies.record_event()

    def _candidates(
        self, scan: StoredScan, found: Any, searched: torch.cuda.Event | None
    ) -> ScanCandidates:
        if self._measures is None or searched is None:
            return self._detector.candidates(found, scan.grid, scan.search_mask())
        self._measures.wait_event(searched)
        with torch.cuda.stream(self._measures):
            return self._detector.candidates(found, scan.grid, scan.search_mask())


def match(scans: Sequence[StoredScan], candidates: Sequence[ScanCandidates]) -> froc.Matched:
    """Match candidates with lesions as defined in docs/froc.md."""
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
    """Return the lesions of scans, or their excluded findings, in the form that FROC uses."""
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
