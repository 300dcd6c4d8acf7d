"""A validation kept scan by scan."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from nodule_det.candidates import ScanCandidates
from nodule_det.runs import RunFolder
from nodule_det.train.distributed import World
from nodule_det.train.partial import PartialValidation, fingerprint, n_scans_done

FOUND = ScanCandidates(
    np.array([[0.1, -2.0, 1 / 3]]), np.array([0.7]), np.array([np.nextafter(5, 6)]), n_dropped=4
)
NOTHING = ScanCandidates(np.empty((0, 3)), np.empty(0), np.empty(0))


def trainer_at(folder, step=10, seed=0):
    torch.manual_seed(seed)
    return SimpleNamespace(
        world=World(), folder=RunFolder(folder), model=nn.Conv3d(1, 2, 3),
        state=SimpleNamespace(step=step),
    )  # fmt: skip


@pytest.fixture
def begun(tmp_path):
    partial = PartialValidation.open(trainer_at(tmp_path))
    partial.add("1.2", FOUND)
    partial.add("1.3", NOTHING)
    return tmp_path


def test_saved_candidates_are_read_back_bit_for_bit(begun):
    found = PartialValidation.open(trainer_at(begun)).found
    assert set(found) == {"1.2", "1.3"}
    for name in ("world_mm", "score", "diameter_mm"):
        np.testing.assert_array_equal(getattr(found["1.2"], name), getattr(FOUND, name))
    assert (found["1.2"].n_dropped, len(found["1.3"])) == (4, 0)


def test_scans_that_are_done_are_counted_over_all_processes(begun):
    (begun / ".validation.1.jsonl").write_bytes((begun / ".validation.0.jsonl").read_bytes())
    assert n_scans_done(begun) == 4


@pytest.mark.parametrize("other", [{"step": 11}, {"seed": 1}])
def test_results_of_other_weights_are_not_used(begun, other):
    assert PartialValidation.open(trainer_at(begun, **other)).found == {}
    assert PartialValidation.open(trainer_at(begun)).found == {}  # deleted


def test_files_of_several_processes_are_merged_by_the_first(begun):
    (begun / ".validation.0.jsonl").rename(begun / ".validation.1.jsonl")
    assert set(PartialValidation.open(trainer_at(begun)).found) == {"1.2", "1.3"}
    assert [p.name for p in begun.glob(".validation*")] == [".validation.0.jsonl"]


@pytest.mark.parametrize("damage", ['{"series_uid": "1.4"}', '{"series_uid": "1', "[]", "3"])
def test_the_scan_of_a_damaged_line_is_searched_again(begun, damage):
    with open(begun / ".validation.0.jsonl", "a") as file:
        file.write(damage + "\n")
    assert set(PartialValidation.open(trainer_at(begun)).found) == {"1.2", "1.3"}


def test_a_complete_validation_leaves_no_files(begun):
    PartialValidation.open(trainer_at(begun)).remove()
    assert list(begun.iterdir()) == []


def test_the_fingerprint_changes_with_any_weight():
    model = nn.Conv3d(1, 2, 3)
    before = fingerprint(model)
    assert fingerprint(model) == before
    with torch.no_grad():
        model.bias[1] += 1e-6
    assert fingerprint(model) != before


def test_the_first_line_identifies_the_weights(begun):
    first = (begun / ".validation.0.jsonl").read_text().splitlines()[0]
    assert json.loads(first).keys() == {"step", "weights"}
