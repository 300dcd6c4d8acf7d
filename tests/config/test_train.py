"""Settings of a training that cannot work are refused before anything is imported."""

from __future__ import annotations

from dataclasses import fields
from itertools import product

import pytest

from nodule_det.config.train import (
    AugmentConfig,
    FeedConfig,
    LimitConfig,
    ModelConfig,
    OptimConfig,
    Optimizer,
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
    ("size_vox", "depth", "full_resolution"),
    [(16, 2, False), (18, 2, False), (48, 5, False), (96, 6, False), (128, 6, True), (34, 3, True)],
)
def test_patches_and_depths_beyond_the_search_space_are_allowed(size_vox, depth, full_resolution):
    config = TrainConfig(
        patches=PatchConfig(size_vox=size_vox),
        model=ModelConfig(depth=depth, filters=5, full_resolution=full_resolution),
        optim=OptimConfig(batch_size=3, lr=1, beta1=0, weight_decay=0.01, kind=Optimizer.sgd),
        augment=AugmentConfig(copies=0),
    )
    assert size_vox % 2 ** sum(step == 2 for step in config.model.strides) == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PatchConfig(size_vox=47), r"patches.size_vox=47 must be one of 16, 18, ..., 512"),
        (lambda: PatchConfig(size_vox=14), r"patches.size_vox=14 must be one of 16, 18, ..., 512"),
        (lambda: PatchConfig(positive_fraction=0.9), r"0.9 and .*vessel_fraction=0.25 sum to more"),
        (lambda: ModelConfig(depth=7), r"model.depth=7 must lie in \[2, 6\]"),
        (lambda: ModelConfig(filters=0), r"model.filters=0 must lie in \[1, 1024\]"),
        (lambda: ModelConfig(kernel_size=4), r"model.kernel_size=4 must be one of 3, 5"),
        (lambda: OptimConfig(batch_size=0), r"optim.batch_size=0 must lie in \[1, 4096\]"),
        (lambda: OptimConfig(lr=1.5), r"optim.lr=1.5 must lie in \[1e-08, 1\]"),
        (lambda: OptimConfig(beta1=1.0), r"optim.beta1=1.0 must lie in \[0, 0.999\]"),
        (lambda: OptimConfig(weight_decay=-1), r"optim.weight_decay=-1 must lie in \[0, 1\]"),
        (lambda: AugmentConfig(copies=65), r"augment.copies=65 must lie in \[0, 64\]"),
        (lambda: AugmentConfig(noise_hu=-1), r"augment.noise_hu=-1 must lie in \[0, 1000\]"),
        (lambda: AugmentConfig(contrast=1), r"augment.contrast=1 must lie in \[0, 0.9\]"),
        (lambda: AugmentConfig(scale=1), r"augment.scale=1 must lie in \[0, 0.9\]"),
        (lambda: FeedConfig(memory_gb=-1), r"feed.memory_gb=-1 must lie in \[0, 100000\]"),
        (lambda: FeedConfig(threads=-1), r"feed.threads=-1 must lie in \[0, 256\]"),
        (lambda: ValidationConfig(slab_gb=0), r"validation.slab_gb=0 must lie in"),
        (
            lambda: TrainConfig(patches=PatchConfig(size_vox=40), model=ModelConfig(depth=5)),
            r"patches.size_vox=40 is not a multiple of 16, as model.depth=5 requires; use 32 or",
        ),
        (
            lambda: TrainConfig(
                patches=PatchConfig(size_vox=16),
                model=ModelConfig(depth=5, kernel_size=5),
                augment=AugmentConfig(shift_vox=8),
            ),
            r"leaves 1 voxels at the coarsest level, too few for model.kernel_size=5",
        ),
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
