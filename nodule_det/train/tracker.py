"""Copies of a training's figures for TensorBoard or MLflow, written to its run folder.

    lines of metrics.jsonl, images of missed lesions ──▶ Tracker ──▶ RUN/tensorboard or RUN/mlflow

A tracker is a convenience: if it is not installed, or its disk is full, the training says so once
and continues.  Nothing is sent over a network unless ``tracker_uri`` names a server.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nodule_det.config.fields import as_plain
from nodule_det.config.train import TrackerKind, TrainConfig
from nodule_det.data.store import StoredScan
from nodule_det.files import write_text
from nodule_det.froc import Matched
from nodule_det.plots.findings import HALF_MM, LUNG_WINDOW_HU, crop, misses
from nodule_det.runs import RunFolder
from nodule_det.train.run_folder import flat

WORST = 4
"""Missed lesions of a validation that are shown, the largest ones."""

Image = NDArray[np.uint8]

log = logging.getLogger("nodule_det.train")


class Tracker(Protocol):
    """Receives what a training logs."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Receive a line of ``metrics.jsonl``."""

    def images(self, step: int, images: Mapping[str, Image]) -> None:
        """Receive pictures (y, x) by name."""

    def close(self) -> None:
        """Write what is buffered; nothing is received afterwards."""


class NoTracker:
    """Ignores everything."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Ignore a line."""

    def images(self, step: int, images: Mapping[str, Image]) -> None:
        """Ignore pictures."""

    def close(self) -> None:
        """Do nothing."""


class TensorBoard:
    """Event files below ``tensorboard/`` of the run folder.

    They are written at once: the thread of torch's ``SummaryWriter`` ends with a traceback when the
    disk is full.

    Args:
        folder: The run.
        config: Its settings.
        step: Step at which this session starts; later events of an earlier session are hidden.
    """

    def __init__(self, folder: RunFolder, config: TrainConfig, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from torch.utils.tensorboard.summary import hparams

        root = folder.path / "tensorboard"
        root.mkdir(exist_ok=True)
        self._path = root / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
        self._write(0, file_version="brain.Event:2")
        if step:
            self._write(step, session_log=SessionLog(status=SessionLog.START))
        for summary in hparams(_plain_settings(config), {"validation/pauc": None}):  # type: ignore[no-untyped-call]
            self._write(0, summary=summary)

    def log(self, row: Mapping[str, Any]) -> None:
        """Add each number as a scalar, at its step."""
        from torch.utils.tensorboard.summary import scalar

        for name, value in numbers(row).items():
            self._write(row["step"], summary=scalar(name, value))  # type: ignore[no-untyped-call]

    def images(self, step: int, images: Mapping[str, Image]) -> None:
        """Add pictures."""
        from torch.utils.tensorboard.summary import image as picture

        for name, image in images.items():
            self._write(step, summary=picture(name, image, dataformats="HW"))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Do nothing: each event is in its file."""

    def _write(self, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        event = Event(step=step, wall_time=time.time(), **content)
        with open(self._path, "ab") as file:
            RecordWriter(file).write(event.SerializeToString())


class MLflow:
    """One MLflow run, in ``mlflow/`` of the run folder or on the server of ``tracker_uri``.

    Args:
        folder: The run.
        config: Its settings.
        step: Step at which this session starts.
    """

    def __init__(self, folder: RunFolder, config: TrainConfig, step: int) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's own deprecations, on import
            from mlflow import MlflowClient
        root = folder.path / "mlflow"
        self._client = MlflowClient(tracking_uri=config.tracker_uri or root.resolve().as_uri())
        known = root / "run_id"
        if known.exists():  # resumed
            self._run_id = known.read_text(encoding="utf-8")
            return
        found = self._client.get_experiment_by_name("nodule_det")
        experiment = found.experiment_id if found else self._client.create_experiment("nodule_det")
        name = folder.path.resolve().name
        self._run_id = self._client.create_run(experiment, run_name=name).info.run_id
        root.mkdir(exist_ok=True)
        write_text(known, self._run_id)
        for name, value in _plain_settings(config).items():
            self._client.log_param(self._run_id, name, value)

    def log(self, row: Mapping[str, Any]) -> None:
        """Add each number as a metric, at its step."""
        for name, value in numbers(row).items():
            self._client.log_metric(self._run_id, name, value, step=row["step"])

    def images(self, step: int, images: Mapping[str, Image]) -> None:
        """Add pictures as artifacts."""
        for name, image in images.items():
            self._client.log_image(self._run_id, image, artifact_file=f"{name}_step{step}.png")

    def close(self) -> None:
        """Mark the run as finished; a resumed session adds to it."""
        self._client.set_terminated(self._run_id)


class Guarded:
    """A tracker whose first failure is logged, and ends it but not the training.

    Args:
        kind: Name of the tracker, for the message.
        make: Starts it.
    """

    def __init__(self, kind: str, make: Callable[[], Tracker]) -> None:
        self._kind = kind
        self._tracker: Tracker = NoTracker()
        self._try(lambda: self._start(make))

    def log(self, row: Mapping[str, Any]) -> None:
        """Pass a line on."""
        self._try(lambda: self._tracker.log(row))

    def images(self, step: int, images: Mapping[str, Image]) -> None:
        """Pass pictures on."""
        self._try(lambda: self._tracker.images(step, images))

    def close(self) -> None:
        """Close the tracker."""
        self._try(lambda: self._tracker.close())

    def _start(self, make: Callable[[], Tracker]) -> None:
        self._tracker = make()

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except ImportError as error:
            self._end(f"is not installed ({error}); run pip install 'nodule_det[{self._kind}]'")
        except Exception as error:  # of a library, its server or the disk
            first = next(iter(str(error).splitlines()), "")
            self._end(f"failed ({type(error).__name__}: {first[:200]})")

    def _end(self, why: str) -> None:
        self._tracker = NoTracker()
        log.warning("tracker=%s %s; the training continues without it", self._kind, why)


TRACKERS: dict[TrackerKind, Callable[[RunFolder, TrainConfig, int], Tracker]] = {
    TrackerKind.tensorboard: TensorBoard,
    TrackerKind.mlflow: MLflow,
}


def make_tracker(folder: RunFolder, config: TrainConfig, step: int) -> Tracker:
    """Start the tracker that the settings name."""
    if config.tracker is TrackerKind.none:
        return NoTracker()
    return Guarded(config.tracker.value, lambda: TRACKERS[config.tracker](folder, config, step))


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of metrics as ``kind/name``, without its step.

    Example:
        >>> numbers({"kind": "train", "step": 20, "loss": 0.5, "lr": 0.1})
        {'train/loss': 0.5, 'train/lr': 0.1}
    """
    return {
        f"{row['kind']}/{name}": float(value)
        for name, value in row.items()
        if name not in ("kind", "step")
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


def worst_misses(scans: Sequence[StoredScan], matched: Matched) -> dict[str, Image]:
    """Draw the largest missed lesions of a validation: axial squares in the lung window."""
    low, high = LUNG_WINDOW_HU
    tiles, _ = misses(scans, matched)
    images = {}
    for n, tile in enumerate(tiles[:WORST], start=1):
        grid = tile.scan.grid
        square, _ = crop(
            tile.scan.volume(), grid.to_voxel(tile.world_mm), HALF_MM / grid.spacing_mm[1]
        )
        grey = (np.clip(square, low, high) - low) / (high - low) * 255
        images[f"misses/{n}"] = np.rint(grey).astype(np.uint8)
    return images


def _plain_settings(config: TrainConfig) -> dict[str, str | int | float | bool]:
    values = flat(as_plain(config))
    return {k: v if isinstance(v, str | int | float) else str(v) for k, v in values.items()}
