"""The demo runs the ordinary commands in order, and repeats nothing."""

import subprocess
import sys

import pytest

SMALL = [
    "data=['phantom.n_scans=4','phantom.nodules_per_scan=2','phantom.folds=2']",
    "train=['fast=true','model.filters=4']",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo twice in one folder, and with another seed: what each printed."""
    folder = tmp_path_factory.mktemp("demo")

    def run(*words):
        line = [sys.executable, "-m", "nodule_det.demo", f"dir={folder}", *SMALL, *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return [run(), run(), run("seed=1")]


def commands(printed):
    return [line.split()[3] for line in printed.splitlines() if line.startswith("$ ")]


def result(printed):
    return [line for line in printed.splitlines() if line.startswith(("3D U-Net", "blob"))]


def test_it_shows_each_command_and_both_detectors(demo):
    assert commands(demo[0]) == [
        "nodule_det.data",
        "nodule_det.train",
        "nodule_det.baseline",
        "nodule_det.evaluate",
    ]
    network, blob = result(demo[0])
    assert network.startswith("3D U-Net")
    assert blob.startswith("blob detector")


def test_a_second_demo_reuses_results_and_prints_the_same(demo):
    assert commands(demo[1]) == ["nodule_det.data", "nodule_det.train"]
    assert result(demo[1]) == result(demo[0])


def test_another_seed_trains_again_and_reuses_the_blobs(demo):
    assert commands(demo[2]) == ["nodule_det.data", "nodule_det.train"]
    assert result(demo[2])[1] == result(demo[0])[1]
    assert "run-seed1" in demo[2]


def test_a_command_that_fails_ends_the_demo_with_its_exit_code(tmp_path):
    words = [f"dir={tmp_path}", "data=['phantom.n_scans=0']"]
    line = [sys.executable, "-m", "nodule_det.demo", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the demo stopped: python -m nodule_det.data failed with exit code 2" in done.stderr
