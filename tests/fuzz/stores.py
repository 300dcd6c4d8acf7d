"""Mutated files of our own: each is read as it was written, or refused in one line.

    python -m tests.fuzz.stores [--mutations 3000] [--seed 0]

A store, a run folder, a folder of predictions and a model folder are damaged as ``mutations.py``
says, and opened with the package's own functions.  Wrong content differs from what was written
although a checksum covers it, or holds an impossible number.  Exits with 1 if there is a traceback,
a hang or wrong content.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from nodule_det.candidates import ScanCandidates
from nodule_det.checkpoint import Checkpoint, Meta, load_checkpoint, load_model, save_checkpoint
from nodule_det.config.train import ModelConfig, OptimConfig, TrainConfig
from nodule_det.data.store import Splits, open_store, write_splits_json
from nodule_det.ensemble.calibration import Calibration
from nodule_det.ensemble.folder import Model, read_model, write_model
from nodule_det.errors import StoreError
from nodule_det.files import CHECKSUM, append_jsonl, read_jsonl, write_json
from nodule_det.model import build_model
from nodule_det.predict.folder import Predictions
from nodule_det.runs import RunFolder, RunResult, RunStatus
from nodule_det.train.distributed import World
from nodule_det.train.optimizer import make_optimizer
from nodule_det.train.run_folder import (
    cut_metrics,
    describe,
    earlier_result,
    logging_to,
    refuse_other_settings,
)
from nodule_det.train.trainer import State, Trainer
from tests.data.test_store import GRID, make_store
from tests.fuzz.mutations import Seed, main

META = Meta(ModelConfig(depth=2, filters=1), 1.0, 4.0, "0", 3)
UIDS = ("1.2.0", "1.2.1")
MADE_BY = {"checkpoint": "sha256:1", "markups_max": 10}
FOUND = ScanCandidates(
    np.array([[-12.5, 40.25, -300.1], [1.5, 2.0, 3.0]]), np.array([0.9, 0.2]), np.array([8.0, 5.0])
)


def write_store(folder):
    make_store(folder, labels=np.ones(GRID.size_vox, np.uint8))
    write_splits_json(folder, Splits({}, dict(zip(UIDS, (0, 1), strict=True))))


def read_store(folder):
    store = open_store(folder)
    for scan in store.scans:
        scan.lung_blocks(), scan.vessel_blocks(), scan.search_mask(), scan.labels()
        if problems := scan.problems():
            raise StoreError(problems[0])
    return [(s.series_uid, s.grid, s.findings, s.volume().tobytes()) for s in store.scans]


def fresh_trainer(folder):
    """Build what a run builds before it looks for ``last.pt``, without a feed."""
    torch.manual_seed(0)
    model, device = build_model(META.model), torch.device("cpu")
    return Trainer(
        config=TrainConfig(), meta=META, model=model, feed=None, validation_scans=(),
        optimizer=make_optimizer(model, OptimConfig(), device),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        folder=folder, world=World(), device=device, dtype=torch.float32,
        state=State(step=3, epoch=1, validated=1, best_pauc=0.5, best_step=3),
    )  # fmt: skip


def write_run(path):
    folder = RunFolder(path)
    trainer = fresh_trainer(folder)
    sum(p.sum() for p in trainer.model.parameters()).backward()
    trainer.optimizer.step()
    trainer.save(folder.checkpoint_last, training=True)
    trainer.save(folder.checkpoint_best, training=False)
    describe(folder, TrainConfig(), {})
    result = RunResult(
        status=RunStatus.STOPPED, reason="sigterm", pauc=0.5, pauc_se=0.1, step=3, best_step=3,
        pauc_interval=(0.3, 0.7), cpm=0.4, seconds=12.5,
    )  # fmt: skip
    write_json(folder.result, result.as_dict())
    for step in (1, 2, 3):
        append_jsonl(folder.metrics, {"kind": "training", "step": step, "loss": 0.5})
    append_jsonl(folder.metrics, {"kind": "validation", "epoch": 1, "pauc": 0.5})
    folder.log.write_text("begun\n")


def read_run(path):
    folder = RunFolder(path)
    with logging_to(folder, logging.Logger("fuzz")):
        pass
    refuse_other_settings(folder, TrainConfig())
    result = earlier_result(folder)
    result = result or RunResult(status=RunStatus.STOPPED)
    for figure in (result.pauc, result.cpm, *(result.pauc_interval or ())):
        assert figure is None or 0 <= figure <= 1
    trainer = fresh_trainer(folder)
    trainer.restore(load_checkpoint(folder.checkpoint_last), folder.checkpoint_last)
    cut_metrics(folder, step=trainer.state.step, validated=trainer.state.validated)
    read_jsonl(folder.metrics)
    best, meta = load_model(folder.checkpoint_best)
    return [weights(trainer.model), weights(best), trainer.state, meta]


def weights(model):
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}


def write_predictions(folder):
    out = Predictions(folder, 10)
    with out.claimed(MADE_BY, UIDS):
        for uid in UIDS:
            out.write(uid, "stamp", FOUND)
        out.join(UIDS)


def read_predictions(folder):
    """Do as predict does: what is damaged is computed again, all else must be as it was."""
    out = Predictions(folder, 10)
    with out.claimed(MADE_BY, UIDS):
        for uid in UIDS:
            if out.read(uid, "stamp") is None:
                out.write(uid, "stamp", FOUND)
        out.join(UIDS)
    return out.candidates.read_text()


def write_models(folder):
    with tempfile.TemporaryDirectory() as name:
        member = Path(name) / "a.pt"
        save_checkpoint(member, Checkpoint(META, build_model(META.model).state_dict()))
        write_model(
            Model(
                path=folder, members=(member,), thresholds={"1": 0.4, "0.125": None},
                calibration=Calibration(1.5, 0.25, (0.9, 0.5), (0.0, 1.0), 4, 3),
                figures={"pauc": 0.9}, settings={"optim.lr": "0.001"}, data="abc", licence="CC0",
            )
        )  # fmt: skip


def read_models(folder):
    model = read_model(folder)
    for member in model.members:
        load_model(member)
    return [model.thresholds, model.calibration, model.figures, model.settings, model.data]


def seed(name, write, read):
    @functools.cache
    def original():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            return read(Path(folder))

    def judge(_, content):
        return "" if content == original() else "other content"

    return Seed(name, write, lambda folder: [read(folder)], judge)


def without_checksums(name, write, read):
    """Make a seed as an earlier version wrote it: the values alone must be refused, or usable."""

    def write_bare(folder):
        write(folder)
        for path in folder.rglob("*.json"):
            content = json.loads(path.read_text())
            content.pop(CHECKSUM, None)
            content.pop("checksums", None)
            path.write_text(json.dumps(content))

    return Seed(name, write_bare, lambda folder: [read(folder)], lambda folder, content: "")


SEEDS = [
    seed("store", write_store, read_store),
    seed("run", write_run, read_run),
    seed("predictions", write_predictions, read_predictions),
    seed("model", write_models, read_models),
    without_checksums("old store", write_store, read_store),
    without_checksums("old predictions", write_predictions, read_predictions),
    without_checksums("old model", write_models, read_models),
]


if __name__ == "__main__":
    sys.exit(main(SEEDS, (__doc__ or "").splitlines()[0], 3000))
