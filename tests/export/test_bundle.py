"""A MONAI bundle run by MONAI's own command, against predict."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from monai.bundle import ConfigParser

from nodule_det.checkpoint import Checkpoint, save_checkpoint
from nodule_det.config.train import CandidateConfig
from nodule_det.errors import ConfigError
from nodule_det.export.bundle import load, write_bundle
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
    run("nodule_det.predict", f"checkpoint={tmp_path / 'a.pt'}", f"input={tmp_path}",
        f"out={tmp_path / 'ours'}", "precision=fp32", "device=cpu")  # fmt: skip
    run("monai.bundle", "run", "--bundle_root", str(bundle), "--config_file",
        str(bundle / "configs" / "inference.json"), "--input", str(tmp_path / "chest.nii.gz"),
        "--output", str(tmp_path / "theirs.csv"))  # fmt: skip
    ours = read_table(tmp_path / "ours" / "candidates.csv", COLUMNS)
    theirs = read_table(tmp_path / "theirs.csv", COLUMNS)
    assert len(ours) == len(theirs) == 2
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
