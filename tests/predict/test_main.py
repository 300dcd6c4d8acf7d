"""``python -m nodule_det.predict`` as a user types it: real files in, CSV and Markups out."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nodule_det.candidates import ScanCandidates
from nodule_det.checkpoint import Checkpoint, Meta, load_checkpoint, save_checkpoint
from nodule_det.config.data import PhantomConfig, PhantomShapes
from nodule_det.config.predict import PredictConfig
from nodule_det.config.train import CandidateConfig, ModelConfig
from nodule_det.data.ingest.keys import Keys, open_secret
from nodule_det.data.phantom.images import write_image
from nodule_det.data.phantom.make import make_scan
from nodule_det.data.readers.dicom_header import patient_key
from nodule_det.ensemble.calibration import fit_calibration
from nodule_det.ensemble.folder import Model, write_model
from nodule_det.errors import CheckpointError, ConfigError, ScanError
from nodule_det.model import build_model
from nodule_det.origin import Origin, ScanRecord, read_origin
from nodule_det.predict import __main__ as predict
from tests.analysis.froc_jobs import matched

BUILTIN_SEED = 4
META = Meta(ModelConfig(depth=2, filters=4, residual=False), 2.0, 6.0, "0.1.0", step=3)
SPACING_MM = (3.5, 3.0, 2.5)
ORIGIN_MM = (-100.0, -80.0, 40.0)
NODULES = ((30, 30, 20), (20, 36, 60))
"""Voxels (z, y, x) of balls of 12 mm in the two lungs."""


def chest():
    """Return (z, y, x) HU: a body with two lungs, and a bright ball in each."""
    z, y, x = np.indices((48, 64, 80))
    volume = np.full((48, 64, 80), -1000)
    volume[(y - 32) ** 2 / 28**2 + (x - 40) ** 2 / 38**2 < 1] = 40
    for middle in (22, 58):
        lung = (z - 24) ** 2 / 20**2 + (y - 32) ** 2 / 20**2 + (x - middle) ** 2 / 13**2 < 1
        volume[lung] = -850
    for nodule in NODULES:
        steps_mm = [(a - b) * s for a, b, s in zip((z, y, x), nodule, SPACING_MM, strict=True)]
        volume[np.linalg.norm(steps_mm, axis=0) <= 6] = 300
    return volume.astype(np.int16)


def write_scan(path, volume):
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(SPACING_MM[::-1])
    image.SetOrigin(ORIGIN_MM)
    sitk.WriteImage(image, str(path))


def bright_finder():
    """Return a network made by hand that answers where it is brighter than 187 HU.

    The way down takes means of 3^3 voxels, the way up interpolates linearly between them.
    """
    model = build_model(META.model)
    linear = torch.tensor([0.5, 1.0, 0.5])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        down, up = model.model[0], model.model[2]
        down.conv.weight[0] = 1 / 27
        down.adn.N.weight[:] = 1
        up.conv.weight[0] = 100 * torch.einsum("i,j,k->ijk", linear, linear, linear)
        up.conv.bias[:] = -85.0
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Make a folder with a checkpoint and two scans, one of them no chest."""
    path = tmp_path_factory.mktemp("predict")
    (path / "scans").mkdir()
    write_scan(path / "scans" / "1.2.3.mhd", chest())
    write_scan(path / "scans" / "empty.mhd", np.where(chest() > -900, 40, -1000).astype(np.int16))
    save_checkpoint(path / "best.pt", Checkpoint(META, bright_finder().state_dict()))
    return path


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nodule_det.predict", "device=cpu", "precision=fp32", *words],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(folder):
    """Predict both scans."""
    out = folder / "out"
    return out, run(f"checkpoint={folder / 'best.pt'}", f"input={folder / 'scans'}", f"out={out}")


def rows_of(out):
    return list(csv.DictReader((out / "candidates.csv").read_text().splitlines()))


def test_candidates_lie_at_the_nodules_in_world_mm(done):
    out, _ = done
    rows = rows_of(out)
    assert [row["seriesuid"] for row in rows] == ["1.2.3", "1.2.3"]
    found = np.array([[float(row[f"coord{c}"]) for c in "XYZ"] for row in rows])
    for z, y, x in NODULES:
        place_mm = np.add(ORIGIN_MM, np.multiply((x, y, z), SPACING_MM[::-1]))
        assert np.linalg.norm(found - place_mm, axis=1).min() < 3**0.5  # half a voxel's diagonal


def test_the_markups_hold_the_best_of_the_csv(done):
    out, _ = done
    (markup,) = json.loads((out / "1.2.3.mrk.json").read_text())["markups"]
    assert markup["coordinateSystem"] == "LPS"
    best = rows_of(out)[: len(markup["controlPoints"])]
    assert [p["position"] for p in markup["controlPoints"]] == [
        [float(row[f"coord{c}"]) for c in "XYZ"] for row in best
    ]


def test_one_line_per_scan_and_failures_at_the_end_with_exit_code_1(done):
    out, process = done
    assert process.returncode == 1
    lines = process.stdout.splitlines()
    assert lines[0].startswith("1.2.3  ")
    assert " candidates, best " in lines[0]
    assert lines[1] == f"1 of 2 scans  {out / 'candidates.csv'}"
    (error,) = process.stderr.splitlines()
    assert error.startswith("error: empty: no lungs were found")
    assert {p.name for p in out.iterdir()} == {
        "candidates.csv", "1.2.3.mrk.json", "predict.json", "scans",
    }  # fmt: skip


def test_anonymised_predictions_map_back_to_the_same_candidates(folder, done, tmp_path):
    words = f"checkpoint={folder / 'best.pt'}", f"input={folder / 'scans'}", "anonymise=true"
    process = run(*words, f"out={tmp_path / 'p'}")
    assert process.returncode == 1
    table = list(csv.DictReader((tmp_path / "p.names.csv").read_text().splitlines()))
    names = {row["original"]: row for row in table}
    assert set(names) == {"1.2.3", "empty"}
    assert "no lungs were found" in names["empty"]["failure"]
    key = names["empty"]["seriesuid"]
    assert process.stderr == f"error: {key}: see p.names.csv beside the folder\n"
    assert "1.2.3" not in process.stdout
    back = {row["seriesuid"]: row["original"] for row in table}
    rows = rows_of(tmp_path / "p")
    assert [row | {"seriesuid": back[row["seriesuid"]]} for row in rows] == rows_of(done[0])
    again = run(*words, f"out={tmp_path / 'p'}")
    assert again.stdout.splitlines()[0].endswith("  already done")
    shared = run(*words, f"out={tmp_path / 'q'}", f"secret={tmp_path / 'p.secret'}")
    assert shared.returncode == 1
    assert rows_of(tmp_path / "q") == rows


def test_a_folder_is_anonymised_or_not_and_needs_its_secret(folder, command, tmp_path):
    words = f"checkpoint={folder / 'best.pt'}", f"input={folder / 'scans' / '1.2.3.mhd'}"
    assert command(*words, "out=p")[0] == 0
    code, _, err = command(*words, "out=p", "anonymise=true")
    assert code == ConfigError.exit_code
    assert "out=p exists but its secret is not at p.secret" in err
    (tmp_path / "p.secret").write_text("0" * 64)
    (tmp_path / "p.secret").chmod(0o600)
    err = command(*words, "out=p", "anonymise=true")[2]
    assert "made with anonymise=(unset) but anonymise=True was requested" in err
    assert "secret=s has no effect without anonymise=true" in command(*words, "secret=s")[2]


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command in this process: (exit code, output, errors)."""

    def call(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["predict", "device=cpu", "precision=fp32", *words])
        with pytest.raises(SystemExit) as left:
            predict.main()
        return left.value.code, *capsys.readouterr()

    return call


def test_a_single_file_leaves_with_0_and_the_limit_is_said(folder, command):
    code, out, err = command(
        f"checkpoint={folder / 'best.pt'}", f"input={folder / 'scans' / '1.2.3.mhd'}",
        "candidates.max_per_scan=1", "candidates.merge_mm=1", "out=p",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "1.2.3  1 candidate, best " in out
    assert "(1 lower peak not examined: candidates.max_per_scan)" in out


def test_settings_that_are_not_given_are_asked_for(command):
    code, _, err = command("input=x")
    assert code == ConfigError.exit_code
    assert err == (
        "error: checkpoint=FILE or model=FOLDER selects the network, but neither is set; set one\n"
    )


def test_a_missing_input_is_named(folder, command):
    code, _, err = command(f"checkpoint={folder / 'best.pt'}", "input=nowhere.mhd")
    assert code == ScanError.exit_code
    assert err.startswith("error: nowhere.mhd does not exist; set .mhd")


def refused(command, folder, checkpoint):
    code, out, err = command(f"checkpoint={checkpoint}", f"input={folder / 'scans'}", "out=p")
    assert (code, out, err.count("\n")) == (CheckpointError.exit_code, "", 1)
    assert not Path("p").exists()
    return err


def test_a_missing_checkpoint_is_refused(folder, command):
    assert "checkpoint no.pt does not exist; use a best.pt" in refused(command, folder, "no.pt")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(folder, command, tmp_path, keep):
    content = (folder / "best.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: int(keep * len(content))])
    err = refused(command, folder, tmp_path / "cut.pt")
    assert "cut.pt cannot be read (" in err
    assert "the file is damaged or not a checkpoint" in err


def test_bytes_changed_on_the_disk_are_noticed(folder, command, tmp_path):
    content = bytearray((folder / "best.pt").read_bytes())
    weights = load_checkpoint(folder / "best.pt").weights["model.0.conv.weight"]
    at = content.index(weights.numpy().tobytes())
    content[at + 5] ^= 0x40
    (tmp_path / "odd.pt").write_bytes(content)
    assert "odd.pt cannot be read (" in refused(command, folder, tmp_path / "odd.pt")


@pytest.mark.parametrize("content", [b"not a checkpoint", b"PK\x03\x04", b"\x80\x04."])
def test_a_file_that_is_no_checkpoint_is_refused(folder, command, tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    assert "x.pt cannot be read (" in refused(command, folder, tmp_path / "x.pt")


@pytest.mark.parametrize("content", [{"weights": {}}, [1, 2], torch.zeros(3)])
def test_a_file_of_another_program_is_refused(folder, command, tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    assert "x.pt is not a usable checkpoint of nodule_det (" in refused(
        command, folder, tmp_path / "x.pt"
    )


def test_a_file_that_would_run_code_is_refused_and_runs_none(folder, command, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"format": 1, "meta": Trap()}, tmp_path / "x.pt")
    assert "x.pt cannot be read (" in refused(command, folder, tmp_path / "x.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_of_another_architecture_is_refused(folder, command, tmp_path):
    other = replace(META, model=ModelConfig(depth=3, filters=4, residual=False))
    save_checkpoint(tmp_path / "x.pt", Checkpoint(other, bright_finder().state_dict()))
    err = refused(command, folder, tmp_path / "x.pt")
    assert "x.pt is of another architecture ({'depth': 3, " in err
    assert "the first is model.0" in err or "the first is model.1" in err


def test_a_newer_format_is_refused(folder, command, tmp_path):
    content = torch.load(folder / "best.pt", weights_only=True)
    torch.save({**content, "format": 2}, tmp_path / "x.pt")
    assert "x.pt has format 2, this version reads 1" in refused(command, folder, tmp_path / "x.pt")


def test_a_folder_that_cannot_be_written_is_refused(folder, command, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command(
        f"checkpoint={folder / 'best.pt'}", f"input={folder / 'scans'}", "out=file/p"
    )
    assert code == ConfigError.exit_code
    assert err == (
        "error: out=file/p cannot be written (Not a directory); use a folder with free space "
        "that you may write to; completed scans are kept, and the same command resumes\n"
    )


def test_a_scan_without_candidates_is_said_to_have_none():
    none = ScanCandidates(np.empty((0, 3)), np.empty(0), np.empty(0))
    assert predict.in_one_line("1.2", none, "0.2 s") == "1.2  0 candidates  0.2 s"


@pytest.fixture(scope="module")
def many(folder):
    """Make a folder of so many scans that no signal comes too late, and their candidates."""
    scans = folder / "many"
    scans.mkdir()
    for i in range(30):
        write_scan(scans / f"s{i:02}.mha", chest())
    whole = folder / "whole"
    assert run(f"checkpoint={folder / 'best.pt'}", f"input={scans}", f"out={whole}").returncode == 0
    return scans, (whole / "candidates.csv").read_bytes()


def hear_interrupts():
    """Undo what a shell does to commands in the background: they are started deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_stopped_loses_nothing_and_goes_on(
    folder, many, command, tmp_path, number
):
    scans, whole = many
    words = (f"checkpoint={folder / 'best.pt'}", f"input={scans}", f"out={tmp_path / 'p'}")
    process = subprocess.Popen(
        [sys.executable, "-m", "nodule_det.predict", "device=cpu", "precision=fp32", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=hear_interrupts,
    )  # fmt: skip
    end_s = time.monotonic() + 60
    while not (tmp_path / "p/scans/s02.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err == "error: interrupted\n"
        assert out.endswith(f"completed scans are in {tmp_path / 'p'}; the same command resumes\n")
    assert not (tmp_path / "p/candidates.csv").exists()
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    assert 3 <= out.count("already done") < 30
    assert (tmp_path / "p/candidates.csv").read_bytes() == whole
    assert not list((tmp_path / "p").rglob(".*.tmp"))


def test_a_second_command_does_no_work(folder, command):
    words = (f"checkpoint={folder / 'best.pt'}", f"input={folder / 'scans/1.2.3.mhd'}", "out=p")
    command(*words)
    before = Path("p/scans/1.2.3.json").stat().st_mtime_ns
    code, out, _ = command(*words)
    assert code == 0
    assert out.startswith("1.2.3  2 candidates, best ")
    assert out.splitlines()[0].endswith("  already done")
    assert Path("p/scans/1.2.3.json").stat().st_mtime_ns == before


def test_a_scan_whose_file_changes_is_done_again_and_one_that_breaks_leaves_the_csv(
    folder, command, tmp_path
):
    scans = tmp_path / "in"
    scans.mkdir()
    write_scan(scans / "a.mha", chest())
    words = (f"checkpoint={folder / 'best.pt'}", f"input={scans}", "out=p")
    command(*words)
    content = (scans / "a.mha").read_bytes()
    (scans / "a.mha").write_bytes(content)
    os.utime(scans / "a.mha", (1, 1))
    assert "already done" not in command(*words)[1]
    (scans / "a.mha").write_bytes(content[:-1000])
    code, out, err = command(*words)
    assert (code, out) == (1, "0 of 1 scan  p/candidates.csv\n")
    assert "a.mha is truncated" in err
    assert rows_of(Path("p")) == []
    assert not Path("p/a.mrk.json").exists()


def test_candidates_of_another_checkpoint_or_setting_are_not_mixed_in(folder, command, tmp_path):
    scan = f"input={folder / 'scans/1.2.3.mhd'}"
    command(f"checkpoint={folder / 'best.pt'}", scan, "out=p")
    before = Path("p/candidates.csv").read_bytes()
    other = Checkpoint(replace(META, step=4), bright_finder().state_dict())
    save_checkpoint(tmp_path / "other.pt", other)
    for words, name in (
        ((f"checkpoint={tmp_path / 'other.pt'}", scan), "checkpoint=sha256:"),
        ((f"checkpoint={folder / 'best.pt'}", scan, "candidates.merge_mm=9"),
         "candidates.merge_mm=6.0 but candidates.merge_mm=9.0 was requested"),
        ((f"checkpoint={folder / 'best.pt'}", scan, "precision=bf16"),
         "precision=fp32 but precision=bf16 was requested"),
    ):  # fmt: skip
        code, out, err = command(*words, "out=p")
        assert (code, out, err.count("\n")) == (ConfigError.exit_code, "", 1)
        assert f"error: out=p holds candidates made with {name}" in err
        assert err.endswith("; use another out=\n")
    assert Path("p/candidates.csv").read_bytes() == before


def test_other_scans_are_not_mixed_in(folder, command, tmp_path):
    write_scan(tmp_path / "b.mha", chest())
    words = (f"checkpoint={folder / 'best.pt'}", "out=p")
    command(*words, f"input={folder / 'scans/1.2.3.mhd'}")
    code, _, err = command(*words, f"input={tmp_path / 'b.mha'}")
    assert code == ConfigError.exit_code
    assert "holds candidates of 1 scan that input= does not have, the first is 1.2.3" in err


def test_a_run_folder_keeps_its_candidates(folder, command, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/candidates.csv").write_text("of a training")
    code, _, err = command(
        f"checkpoint={folder / 'best.pt'}", f"input={folder / 'scans'}", "out=run"
    )
    assert code == ConfigError.exit_code
    assert "out=run holds candidates.csv but no predict.json, so predict did not write it" in err
    assert (tmp_path / "run/candidates.csv").read_text() == "of a training"


def test_a_scan_too_large_for_memory_is_named_and_the_others_go_on(folder, tmp_path):
    """Voxel files of 4.3 GB with nothing in them, and a limit of 4 GiB on the process."""
    scans = tmp_path / "in"
    scans.mkdir()
    write_scan(scans / "small.mhd", chest())
    for kind in ("mhd", "nii"):
        write_scan(scans / f"huge_{kind}.{kind}", chest())
    header = (scans / "huge_mhd.mhd").read_text().replace("80 64 48", "1290 1290 1290")
    (scans / "huge_mhd.mhd").write_text(header)
    os.truncate(scans / "huge_mhd.raw", 2 * 1290**3)
    content = bytearray((scans / "huge_nii.nii").read_bytes()[:352])
    content[40:48] = np.int16([3, 1290, 1290, 1290]).tobytes()  # dim
    (scans / "huge_nii.nii").write_bytes(content)
    os.truncate(scans / "huge_nii.nii", 352 + 2 * 1290**3)
    limited = (
        "import resource, runpy, sys; sys.argv = sys.argv[1:]\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "runpy.run_module('nodule_det.predict', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "predict", "device=cpu", f"input={scans}",
         f"checkpoint={folder / 'best.pt'}", f"out={tmp_path / 'p'}"],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.endswith(f"1 of 3 scans  {tmp_path / 'p/candidates.csv'}\n")
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    for kind, error in zip(("mhd", "nii"), errors, strict=True):
        assert error.startswith(f"error: huge_{kind}: {scans / f'huge_{kind}.{kind}'} needs more ")
        assert "memory than is available (" in error
        assert "request more for the job" in error
    assert {row["seriesuid"] for row in rows_of(tmp_path / "p")} == {"small"}


DAMAGE = {
    "weights are a list": lambda c: c.update(weights=[1]),
    "a weight is a number": lambda c: c["weights"].update({"model.0.conv.bias": 3.0}),
    "a weight without a name": lambda c: c.update(weights={0: torch.zeros(1)}),
    "no weights": lambda c: c.pop("weights"),
    "no meta": lambda c: c.pop("meta"),
    "meta is a word": lambda c: c.update(meta="x"),
    "no model": lambda c: c["meta"].pop("model"),
    "model is a list": lambda c: c["meta"].update(model=[1]),
    "a setting is missing": lambda c: c["meta"]["model"].pop("depth"),
    "a setting is unknown": lambda c: c["meta"]["model"].update(width=3),
    "a setting is a word": lambda c: c["meta"]["model"].update(filters="many"),
    "a setting is impossible": lambda c: c["meta"]["model"].update(depth=9),
    "a spacing of a word": lambda c: c["meta"].update(spacing_mm="wide"),
    "a spacing of none": lambda c: c["meta"].update(spacing_mm=0.0),
    "training is a word": lambda c: c.update(training="x"),
    "no training": lambda c: c.pop("training"),
    "a weight is NaN": lambda c: next(iter(c["weights"].values())).view(-1)[:1].fill_(torch.nan),
    "a weight is infinite": lambda c: (
        next(iter(c["weights"].values())).view(-1)[:1].fill_(-torch.inf)
    ),
    "a negative step": lambda c: c["meta"].update(step=-1),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_checkpoint_of_wrong_content_is_refused(folder, command, tmp_path, kind):
    content = torch.load(folder / "best.pt", weights_only=True)
    DAMAGE[kind](content)
    torch.save(content, tmp_path / "x.pt")
    err = refused(command, folder, tmp_path / "x.pt")
    assert "x.pt is not a usable checkpoint of nodule_det (" in err
    assert err.endswith("); use a best.pt or last.pt of a run folder\n")


def test_weights_of_another_shape_are_of_another_architecture(folder, command, tmp_path):
    content = torch.load(folder / "best.pt", weights_only=True)
    content["weights"]["model.0.conv.bias"] = torch.zeros(5)
    torch.save(content, tmp_path / "x.pt")
    err = refused(command, folder, tmp_path / "x.pt")
    assert "of another architecture" in err
    assert "the first is model.0.conv.bias; use the checkpoint of a run with these" in err


def test_a_folder_in_place_of_a_checkpoint_is_refused(folder, command, tmp_path):
    assert "is a folder; use a best.pt or last.pt in it" in refused(command, folder, tmp_path)


def test_several_checkpoints_are_one_ensemble_whose_cost_is_said(folder, done, tmp_path):
    second = tmp_path / "second.pt"
    shutil.copyfile(folder / "best.pt", second)
    words = [f"input={folder / 'scans' / '1.2.3.mhd'}", f"out={tmp_path / 'p'}", "views=8"]
    found = run(f"checkpoint=[{folder / 'best.pt'},{second}]", *words)
    assert found.returncode == 0, found.stderr
    assert "2 networks x 8 views: 16 passes per scan" in found.stdout
    alone = [row for row in rows_of(done[0]) if row["seriesuid"] == "1.2.3"]
    assert len(rows_of(tmp_path / "p")) == len(alone)  # a symmetric finder, so the same peaks
    again = run(f"checkpoint=[{folder / 'best.pt'},{second}]", *words[:-1])
    assert "holds candidates made with views=8" in again.stderr


def test_a_model_folder_says_what_scores_mean(folder, tmp_path):
    outcome = matched([(0, 0.9), (1, 0.8)], [(0, 0.4), (1, 0.2)], 2)
    calibration = fit_calibration(outcome)
    members = (folder / "best.pt",)
    write_model(Model(path=tmp_path / "m", members=members, calibration=calibration))
    words = (f"input={folder / 'scans' / '1.2.3.mhd'}", f"out={tmp_path / 'p'}")
    assert run(f"model={tmp_path / 'm'}", *words).returncode == 0
    for row in rows_of(tmp_path / "p"):
        score = float(row["probability"])
        assert float(row["calibrated_probability"]) == calibration.probability(score)
        assert float(row["fp_per_scan"]) == calibration.false_positives(score)
    markups = json.loads((tmp_path / "p" / "1.2.3.mrk.json").read_text())
    text = markups["markups"][0]["controlPoints"][0]["description"]
    assert ", calibrated probability " in text


def test_candidates_beyond_the_rate_that_froc_needs_are_dropped():
    outcome = matched([(0, 0.99), (1, 0.98)], [(0, 0.97), (1, 0.96), (0, 0.9), (1, 0.8)], 2)
    calibration = fit_calibration(outcome)

    def lowest(calibration, **more):
        config = PredictConfig(model="m", input="scan", **more)
        return predict.needed_candidates(config, calibration).threshold

    assert lowest(calibration, max_fp_per_scan=1) == 0.9  # 1.5 per scan, the first rate above 1
    assert lowest(calibration, max_fp_per_scan=12) == 0.02  # no more than 2 per scan are known
    assert lowest(calibration, max_fp_per_scan=0) == 0.02
    assert lowest(None, max_fp_per_scan=1) == 0.02
    higher = CandidateConfig(threshold=0.95)
    assert lowest(calibration, max_fp_per_scan=1, candidates=higher) == 0.95


def test_the_builtin_model_finds_the_larger_nodules_of_a_phantom_right_after_installation(
    command, tmp_path
):
    config = PhantomConfig(size_vox=[128, 224, 224], nodules_per_scan=4, shapes=PhantomShapes.lidc)
    scan, findings = make_scan(BUILTIN_SEED, config)
    write_image(scan, tmp_path / "scan.mhd", config.format)
    code, _, err = command("model=builtin", f"input={tmp_path / 'scan.mhd'}", "out=p")
    assert code == 0, err
    best = rows_of(Path("p"))[:5]
    world_mm = np.array([[float(row[f"coord{axis}"]) for axis in "XYZ"] for row in best])
    large = [f for f in findings if not f.excluded and f.diameter_mm > 8]
    assert len(large) >= 2
    for lesion in large:
        away_mm = np.linalg.norm(world_mm - lesion.center_mm, axis=1)
        assert away_mm.min() < lesion.diameter_mm / 2


def test_the_builtin_model_ranks_the_nodule_of_a_real_scan_first(shared, command, tmp_path):
    data = shared / "data"
    (tmp_path / "scan").mkdir()
    for file in (data / "LIDC-IDRI-0314").glob("*.dcm"):
        whole = data / "LIDC-IDRI-0314-repair" / file.name
        os.symlink(whole if whole.exists() else file, tmp_path / "scan" / file.name)
    code, _, err = command("model=builtin", f"input={tmp_path / 'scan'}", "out=p")
    assert code == 0, err
    (nodule,) = csv.DictReader((data / "annotations.csv").read_text().splitlines())
    best = rows_of(Path("p"))[0]
    away_mm = [float(best[f"coord{axis}"]) - float(nodule[f"coord{axis}"]) for axis in "XYZ"]
    assert np.linalg.norm(away_mm) < float(nodule["diameter_mm"]) / 2


def test_scans_that_the_network_has_seen_are_warned_of(folder, command, tmp_path):
    record = ScanRecord.of(["1.2.3"], ["1.2.4"])
    checkpoint = Checkpoint(replace(META, scans=record), bright_finder().state_dict())
    save_checkpoint(tmp_path / "seen.pt", checkpoint)
    scan, new = folder / "scans" / "1.2.3.mhd", tmp_path / "new.mhd"
    write_scan(new, chest())
    code, out, err = command(f"checkpoint={tmp_path / 'seen.pt'}", f"input={scan}", "out=p")
    assert code == 0
    assert "scans are: training (the network was trained on 1 of 1 scan)\n" in out
    assert err.startswith("warning: the network was trained on 1 of 1 scan: figures on these")
    assert read_origin(Path("p/candidates.csv")) == Origin(scans=record)
    _, out, err = command(f"checkpoint={tmp_path / 'seen.pt'}", f"input={new}", "out=q")
    assert "scans are: test (the network has seen none of the scans)\n" in out
    assert err == ""


def test_patients_are_recognised_with_the_secret_of_the_store(folder, command, tmp_path):
    secret = open_secret(tmp_path / "store.secret", "out")
    patients = {"earlier": Keys(secret, anonymise=True).patient(patient_key("1.2.3"))}
    record = ScanRecord.of(["earlier"], ["another"], patients)
    checkpoint = Checkpoint(replace(META, scans=record), bright_finder().state_dict())
    save_checkpoint(tmp_path / "seen.pt", checkpoint)
    words = f"checkpoint={tmp_path / 'seen.pt'}", f"input={folder / 'scans' / '1.2.3.mhd'}"
    code, out, err = command(*words, "out=p", "anonymise=true", "secret=store.secret")
    assert code == 0
    assert "scans are: training (the network was trained on the patients of 1 of 1 scan)\n" in out
    assert err.startswith("warning: the network was trained on other scans of the patients of 1 of")
    _, out, err = command(*words, "out=q", "anonymise=true")
    assert "scans are: test (the network has seen none of the scans)\n" in out
    assert err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "checkpoint=FILE or model=FOLDER selects the network, but neither is set"),
        (["checkpoint=a.pt", "model=m"], "but both are set"),
        (["checkpoint=[a.pt,a.pt]"], "names a file twice"),
        (["checkpoint=[a.pt,3]"], "must be a path or a list of paths"),
        (["checkpoint=a.pt", "views=5"], "views=5 must be one of 1, 8, 48"),
    ],
)
def test_a_wrong_choice_of_networks_is_refused(command, words, message):
    code, _, err = command(*words, "input=x")
    assert code == ConfigError.exit_code
    assert message in err
