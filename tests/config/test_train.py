"""Settings of a training that cannot work are refused before anything is imported."""

from __future__ import annotations

from dataclasses import fields
from itertools import product

import pytest

from nodule_det.config.train import (
    AugmentConfig,
    LimitConfig,
    ModelConfig,
    OptimConfig,
    PatchConfig,
    TrainConfig,
    ValidationConfig,
)
from nodule_det.errors import ConfigError


def test_the_defaults_are_allowed():
    assert {f.name for f in fields(TrainConfig())} >= {"store", "fold", "seed", "run_dir"}


@pytest.mark.parametrize(
    ("size_vox", "depth", "kernel"), list(product((32, 64), (2, 3, 4), (3, 5)))
)
def test_every_shape_of_network_in_the_search_space_fits_every_patch(size_vox, depth, kernel):
    TrainConfig(
        patches=PatchConfig(size_vox=size_vox),
        model=ModelConfig(depth=depth, kernel_size=kernel),
        augment=AugmentConfig(shift_vox=size_vox // 2),
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PatchConfig(size_vox=48), r"patches.size_vox=48 must be one of 32, 64"),
        (lambda: PatchConfig(positive_fraction=0.9), r"0.9 and .*vessel_fraction=0.25 sum to more"),
        (lambda: ModelConfig(depth=5), r"model.depth=5 must be one of 2, 3, 4"),
        (lambda: ModelConfig(filters=7), r"model.filters=7 must be one of 4, 6, ..., 32"),
        (lambda: ModelConfig(kernel_size=4), r"model.kernel_size=4 must be one of 3, 5"),
        (lambda: OptimConfig(batch_size=18), r"optim.batch_size=18 must be one of 2, 4, ..., 16"),
        (lambda: OptimConfig(lr=0.1), r"optim.lr=0.1 must lie in \[1e-08, 0.01\]"),
        (lambda: OptimConfig(beta1=0.5), r"optim.beta1=0.5 must lie in \[0.9, 0.99\]"),
        (lambda: AugmentConfig(copies=5), r"augment.copies=5 must lie in \[0, 4\]"),
        (lambda: ValidationConfig(bootstrap=1), r"validation.bootstrap=1 must lie in"),
        (lambda: LimitConfig(epochs=0), r"limits.epochs=0 must lie in"),
        (lambda: TrainConfig(seed=-1), r"seed=-1 must lie in"),
        (
            lambda: TrainConfig(augment=AugmentConfig(shift_vox=17)),
            r"augment.shift_vox=17 is more than half of patches.size_vox=32",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
