"""A few steps and one scan, timed."""

import json

import torch

from nodule_det.config.train import LimitConfig
from nodule_det.train.probe import STEPS, measure
from nodule_det.train.run import run
from tests.train.tiny_run import tiny


def test_twenty_steps_are_timed_even_if_an_epoch_is_shorter(store, tmp_path):
    rate = measure(tiny(store, tmp_path), torch.device("cpu"), torch.float32)
    assert rate.source == f"measured in {STEPS} steps on this machine"
    assert rate.training > 0
    assert rate.validation > 0


def test_a_dry_run_prints_what_the_run_would_do_and_trains_nothing(store, tmp_path, capsys):
    config = tiny(store, tmp_path / "run", dry_run=True)
    config.limits = LimitConfig(epochs=3, wall_s=1e-6)
    assert run(config) == 0
    out, err = capsys.readouterr()
    # 3 epochs of 12 patches; half of the 36 around one of the 4 lesions of fold 1
    assert out.startswith("3 epochs, 18 steps, 36 patches, each of 4 lesions seen about 4 times, ")
    assert "(measured in 20 steps on this machine)" in out
    assert "of limits.wall_s: it needs about " in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["forecast.json"]
    expected = json.loads((tmp_path / "run" / "forecast.json").read_text())
    assert (expected["steps"], expected["n_lesions"]) == (18, 4)
