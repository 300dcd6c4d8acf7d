"""A read-only store that the tests of this directory share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nodule_det.checkpoint import Meta
from nodule_det.data.feed.feed import Feed
from nodule_det.data.store import open_store
from nodule_det.model import build_model
from nodule_det.runs import RunFolder
from nodule_det.train.distributed import World
from nodule_det.train.optimizer import make_optimizer
from nodule_det.train.trainer import Trainer
from tests.train.tiny_run import SETTINGS, tiny, write_tiny_store

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """Make a store of five scans: three in fold 0, two in fold 1."""
    path = tmp_path_factory.mktemp("store")
    write_tiny_store(path, scans=5, folds=2)
    return path


@pytest.fixture
def trainer(store, tmp_path):
    """Return a function that makes a fresh trainer; settings replace those of a tiny run."""

    def make(**others):
        config = replace(tiny(store, tmp_path, epochs=3), **others)
        torch.manual_seed(0)
        model = build_model(config.model)
        opened = open_store(store)
        return Trainer(
            config=config,
            meta=Meta(config.model, SETTINGS["spacing_mm"], SETTINGS["margin_mm"], "test"),
            model=model,
            optimizer=make_optimizer(model, config.optim, CPU),
            scaler=torch.amp.GradScaler("cpu", enabled=False),
            feed=Feed(opened.training(0), config),
            validation_scans=opened.validation(0),
            folder=RunFolder(tmp_path),
            world=World(),
            device=CPU,
            dtype=torch.float32,
        )

    return make
