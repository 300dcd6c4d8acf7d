"""A MONAI bundle run by MONAI's own command, against predict."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from monai.bundle import ConfigParser

from nodule_det.checkpoint import Checkpoint, save_checkpoint
from nodule_det.config.export import ExportConfig, Format
from nodule_det.config.predict import PredictConfig
from nodule_det.config.train import CandidateConfig, Device, Precision
from nodule_det.errors import ConfigError
from nodule_det.export.__main__ import main as export
from nodule_det.export.bundle import load, write_bundle
from nodule_det.predict.__main__ import main as predict
from nodule_det.tables import read_table
from tests.predict.test_main import META, bright_finder, chest, write_scan

COLUMNS = ("coordX", "coordY", "coordZ", "probability", "diameter_mm")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle")
    write_bundle([(bright_finder().eval(), META)], CandidateConfig(), out)
    return out


def run(*words):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_monai_runs_the_bundle_and_finds_the_candidates_of_predict(bundle, tmp_path):
    write_scan(tmp_path / "chest.nii.gz", chest())
    save_checkpoint(tmp_path / "a.pt", Checkpoint(META, bright_finder().state_dict()))
    words = {"precision": Precision.fp32, "device": Device.cpu}
    config = PredictConfig(
        checkpoint=str(tmp_path / "a.pt"), input=str(tmp_path), out=str(tmp_path / "ours"), **words
    )
    assert predict.main(config) == 0
    run("monai.bundle", "run", "--bundle_root", str(bundle), "--config_file",
        str(bundle / "configs" / "inference.json"), "--input", str(tmp_path / "chest.nii.gz"),
        "--output", str(tmp_path / "theirs.csv"))  # fmt: skip
    ours = read_table(tmp_path / "ours" / "candidates.csv", COLUMNS)
    theirs = read_table(tmp_path / "theirs.csv", COLUMNS)
    assert len(ours) == len(theirs) == 2
    for name in COLUMNS:
        np.testing.assert_allclose(theirs.numbers(name), ours.numbers(name), atol=1e-4)


def test_the_bundle_of_the_builtin_model_finds_the_candidates_of_predict_in_a_real_scan(
    real_slices, tmp_path
):
    out = tmp_path / "bundle"
    export.main(ExportConfig(model="builtin", format=Format.monai_bundle, out=str(out)))
    config = PredictConfig(
        model="builtin", input=str(real_slices), out=str(tmp_path / "ours"),
        precision=Precision.fp32, device=Device.cpu,
    )  # fmt: skip
    assert predict.main(config) == 0
    run("monai.bundle", "run", "--bundle_root", str(out), "--config_file",
        str(out / "configs" / "inference.json"), "--input", str(real_slices),
        "--output", str(tmp_path / "theirs.csv"))  # fmt: skip
    ours = read_table(tmp_path / "ours" / "candidates.csv", COLUMNS)
    theirs = read_table(tmp_path / "theirs.csv", COLUMNS)
    assert 0 < len(ours) == len(theirs) < 50  # those below 12 false positives per scan are dropped
    assert ours.numbers("probability")[0] > 0.9  # the nodule
    for name in COLUMNS:
        np.testing.assert_allclose(theirs.numbers(name), ours.numbers(name), atol=1e-4)


def test_the_metadata_has_what_monai_requires(bundle):
    metadata = ConfigParser.load_config_file(bundle / "configs" / "metadata.json")
    required = {
        "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task",
        "required_packages_version", "description", "authors", "copyright", "network_data_format",
    }  # fmt: skip
    assert required <= metadata.keys()
    settings = json.loads((bundle / "configs" / "inference.json").read_text())["settings"]
    assert json.loads(settings)["fields"][0]["radius_vox"] == 4


def test_a_folder_without_networks_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no member\*\.ts; set bundle_root"):
        load(str(tmp_path), "cpu")
