"""A model on the test set: each scan once, and no scan that it has seen."""

import json
from dataclasses import replace

import pytest
import torch

from nodule_det.checkpoint import Checkpoint, Meta, save_checkpoint
from nodule_det.config.score import ScoreConfig, SessionConfig
from nodule_det.config.train import Device, ModelConfig, Precision
from nodule_det.ensemble import members
from nodule_det.errors import CheckpointError, ConfigError, ExitCode, StoreError
from nodule_det.model import build_model
from nodule_det.origin import Origin, ScanRecord, read_origin
from nodule_det.runs import RunFolder
from nodule_det.score.scoring import score
from tests.train.tiny_run import SETTINGS, name_patients, write_tiny_store

META = Meta(ModelConfig(depth=2, filters=4), SETTINGS["spacing_mm"], SETTINGS["margin_mm"], "test")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Make a store of two scans for training and three for the test."""
    path = tmp_path_factory.mktemp("store")
    write_tiny_store(path, scans=2, folds=2, test=3)
    return path


@pytest.fixture
def scored(store, tmp_path):
    """Return a function that scores a random network, with these scans in its record."""

    def call(trained=("1.2.0",), selected=("1.2.1",), meta=META, patients=None, **settings):
        torch.manual_seed(0)
        meta = replace(meta, scans=ScanRecord.of(trained, selected, patients or {}))
        save_checkpoint(tmp_path / "a.pt", Checkpoint(meta, build_model(META.model).state_dict()))
        return score(
            ScoreConfig(
                checkpoint=str(tmp_path / "a.pt"), run_dir=str(tmp_path / "out"),
                device=Device.cpu, precision=Precision.fp32, bootstrap=100,
                **{"store": str(store), **settings},
            )
        )  # fmt: skip

    return call


def test_the_test_set_gives_figures_tables_and_a_result(scored, tmp_path, capsys):
    assert scored() == ExitCode.COMPLETE
    folder = RunFolder(tmp_path / "out")
    froc, result = json.loads(folder.froc.read_text()), json.loads(folder.result.read_text())
    assert (froc["n_scans"], froc["n_lesions"]) == (3, 6)
    assert (result["status"], result["pauc"], result["step"]) == ("complete", froc["pauc"], 3)
    assert folder.scans.read_text().splitlines()[1:] == [f"1.2.{n},patient{n}" for n in range(2, 5)]
    assert read_origin(folder.candidates) == Origin(scans=ScanRecord.of(["1.2.0"], ["1.2.1"]))
    assert "; test (the network has seen none of the scans); folder" in capsys.readouterr().out


def test_a_fold_that_the_network_has_seen_is_scored_and_called_so(scored, capsys):
    assert scored(fold=0) == ExitCode.COMPLETE
    said = capsys.readouterr()
    assert "training (the network was trained on 1 of 1 scan)" in said.out
    assert said.err.startswith("warning: the network was trained on 1 of 1 scan: figures on")


def test_a_test_set_that_overlaps_with_the_training_is_refused(scored, tmp_path):
    with pytest.raises(CheckpointError, match="trained or selected on 2 of 3 scans in the"):
        scored(trained=["1.2.0", "1.2.3"], selected=["1.2.4"])
    assert not (tmp_path / "out").exists()


PATIENTS = {f"1.2.{n}": f"p{n:020x}" for n in range(5)}


@pytest.fixture
def other_store(tmp_path):
    """Make a store whose test set has a scan of the patient of scan 9, which is not in it."""
    path = tmp_path / "other"
    path.mkdir()
    write_tiny_store(path, scans=2, folds=2, test=3)
    name_patients(path, {**PATIENTS, "1.2.3": f"p{9:020x}"})
    return str(path)


@pytest.mark.parametrize("seen", [{"trained": ["9"]}, {"selected": ["9"]}])
def test_another_scan_of_a_patient_in_the_test_set_is_refused(scored, other_store, tmp_path, seen):
    patients = {**PATIENTS, "9": f"p{9:020x}"}
    with pytest.raises(
        CheckpointError,
        match=r"a\.pt was trained or selected on other scans of the patients of 1 of 3",
    ):
        scored(**seen, patients=patients, store=other_store)
    assert not (tmp_path / "out").exists()


def test_a_fold_with_patients_that_the_network_has_seen_is_scored_and_called_so(
    scored, other_store, capsys
):
    patients = {"9": PATIENTS["1.2.0"]}
    assert scored(trained=["9"], patients=patients, store=other_store, fold=0) == ExitCode.COMPLETE
    said = capsys.readouterr()
    assert "training (the network was trained on the patients of 1 of 1 scan)" in said.out
    assert said.err == (
        "warning: the network was trained on other scans of the patients of 1 of 1 scan: "
        "figures on these are too high for new patients\n"
    )


def test_a_store_without_a_test_set_or_fold_is_refused(scored, three_folds):
    with pytest.raises(StoreError, match="fold=7 has no scans in the store"):
        scored(fold=7)
    settings = ScoreConfig(model="m", store=str(three_folds))
    with pytest.raises(ConfigError, match=r"has no test set; .* folds \[0, 1, 2\] with fold=K"):
        score(settings)


def test_a_network_of_other_voxels_is_refused(scored):
    with pytest.raises(CheckpointError, match=r"voxels of 2 mm with .* use a store with these"):
        scored(meta=replace(META, spacing_mm=2.0))


def test_a_session_that_ends_after_a_scan_is_resumed_with_the_next(
    scored, tmp_path, monkeypatch, capsys
):
    asked = []
    whole = members.Ensemble.probability

    def counted(self, volume):
        asked.append(1)
        return whole(self, volume)

    monkeypatch.setattr(members.Ensemble, "probability", counted)
    ends = SessionConfig(wall_s=1e-6)
    assert scored(limits=ends) == ExitCode.STOPPED
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["status"], result["reason"], result["step"]) == ("stopped", "wall_clock", 0)
    assert "run it again to resume" in capsys.readouterr().out
    assert scored() == ExitCode.COMPLETE
    assert len(asked) == 3
    assert scored() == ExitCode.COMPLETE
    assert len(asked) == 3
