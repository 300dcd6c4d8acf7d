"""A store small enough to train on in a second, and runs of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from nodule_det.config.train import (
    AugmentConfig,
    Device,
    LimitConfig,
    ModelConfig,
    OptimConfig,
    PatchConfig,
    Precision,
    TrainConfig,
    ValidationConfig,
)
from nodule_det.data.scan import Finding, Prepared, ScanEntry
from nodule_det.data.store import StoreInfo, write_info, write_scan
from nodule_det.files import read_sealed, write_json, write_sealed
from nodule_det.geometry import Grid

SIZE_VOX = (48, 56, 64)
ORIGIN_MM = (-30.0, 10.0, 100.0)
SETTINGS = {"spacing_mm": 1.0, "margin_mm": 4.0}


def write_tiny_scan(folder: Path, number: int) -> None:
    """Write a scan of noisy lung with two bright balls of 8 and 10 mm and a faint, excluded one."""
    rng = np.random.default_rng(number)
    grid = Grid(SIZE_VOX, (1.0, 1.0, 1.0), ORIGIN_MM)
    volume_hu = rng.normal(-850, 30, SIZE_VOX)
    findings = []
    for k, (diameter_mm, hu) in enumerate([(8.0, 50), (10.0, 50), (6.0, -400)]):
        voxel = np.array([12 + 12 * k, rng.integers(12, 44), rng.integers(12, 52)])
        away = np.linalg.norm(np.indices(SIZE_VOX).T - voxel, axis=-1).T
        volume_hu[away <= diameter_mm / 2] = hu
        x, y, z = grid.to_world(voxel).tolist()
        findings.append(Finding((x, y, z), diameter_mm, k == 2, {"texture": "solid"}))
    lung = np.zeros(SIZE_VOX, bool)
    lung[4:-4, 4:-4, 4:-4] = True
    write_scan(
        folder,
        ScanEntry(f"1.2.{number}", folder, f"patient{number}", tuple(findings)),
        Prepared(np.rint(volume_hu).astype(np.int16), grid, lung, None, (1.0, 1.0, 1.0)),
    )


def write_tiny_store(path: Path, *, scans: int, folds: int, test: int = 0) -> None:
    """Write a store whose scan n is in fold n modulo the number of folds; then its test set."""
    (path / "scans").mkdir()
    write_info(path, StoreInfo(SETTINGS))
    for number in range(scans + test):
        write_tiny_scan(path / "scans", number)
    splits = {"folds": {f"1.2.{n}": n % folds for n in range(scans)}}
    if test:
        splits["test"] = [f"1.2.{n}" for n in range(scans, scans + test)]
    write_json(path / "splits.json", splits)


def name_patients(store: Path, patients: dict[str, str]) -> None:
    """Set the patients of scans in a store."""
    for uid, patient in patients.items():
        file = store / "scans" / f"{uid}.json"
        write_sealed(file, read_sealed(file, 10**6) | {"patient_key": patient})


def tiny(store: Path, run_dir: Path, *, epochs: int = 3, seed: int = 0, **others) -> TrainConfig:
    """Return the settings of a run that takes a second: 6 steps per epoch, validated after each."""
    return TrainConfig(
        store=str(store),
        run_dir=str(run_dir),
        seed=seed,
        device=Device.cpu,
        precision=Precision.fp32,
        patches=PatchConfig(per_epoch=12),
        augment=AugmentConfig(copies=0),
        optim=OptimConfig(batch_size=2),
        model=ModelConfig(depth=2, filters=4),
        validation=ValidationConfig(every_epochs=1, bootstrap=100),
        limits=LimitConfig(epochs=epochs),
        **others,
    )


WORDS = (
    "device=cpu",
    "precision=fp32",
    "patches.per_epoch=12",
    "augment.copies=0",
    "optim.batch_size=2",
    "model.depth=2",
    "model.filters=4",
    "validation.every_epochs=1",
    "validation.bootstrap=100",
)
"""The same as :func:`tiny`, as a user would type it."""


def start(store: Path, *words: str, program=("-m", "nodule_det.train")) -> subprocess.Popen[str]:
    """Start a training as a user would."""
    return subprocess.Popen(
        [sys.executable, *program, f"store={store}", *WORDS, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def ended(process: subprocess.Popen[str], timeout_s: float = 120) -> tuple[int, str, str]:
    """Wait for a training; returns its exit code, output and errors."""
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def wait_for(process: subprocess.Popen[str], path: Path, text: str) -> None:
    """Wait until a file holds a text."""
    end_s = time.monotonic() + 60
    while not (path.exists() and text in path.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s, f"{path} never held {text}"
        time.sleep(0.01)


def signal_once(
    process: subprocess.Popen[str],
    number: signal.Signals,
    path: Path,
    text: str,
    later_s: float = 0.0,
) -> None:
    """Send a signal ``later_s`` after a file holds a text."""
    wait_for(process, path, text)
    time.sleep(later_s)
    process.send_signal(number)


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint."""
    return torch.load(path, weights_only=True)["weights"]


def same_bits(a: Path, b: Path) -> bool:
    """Return whether two checkpoints have the same weights bit for bit."""
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
