"""A run folder from beginning to end: its content, and what is refused."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml

from nodule_det.checkpoint import load_model
from nodule_det.config.train import (
    CandidateConfig,
    LimitConfig,
    ModelConfig,
    PatchConfig,
    ValidationConfig,
)
from nodule_det.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    DivergedError,
    ExitCode,
    StoreError,
)
from nodule_det.files import read_jsonl
from nodule_det.runs import RunFolder, RunResult, RunStatus
from nodule_det.train.run import run
from nodule_det.train.run_folder import cut_metrics, held, refuse_other_settings
from tests.train.tiny_run import same_bits, tiny


@pytest.fixture(scope="module")
def done(store, tmp_path_factory):
    """Return the folder and the settings of a complete run."""
    config = tiny(store, tmp_path_factory.mktemp("run") / "a")
    assert run(config) == ExitCode.COMPLETE
    return RunFolder(config.run_dir), config


def result_of(folder: RunFolder) -> RunResult:
    return RunResult.from_json(folder.result.read_text())


def test_a_run_writes_every_documented_file(done):
    folder, _ = done
    there = {path.name for path in folder.path.iterdir()}
    assert there == {
        "config.yaml", "command.txt", "environment.json", "metrics.jsonl", "train.log",
        "last.pt", "best.pt", "candidates.csv", "candidates.origin.json", "annotations.csv",
        "annotations_excluded.csv", "scans.csv", "froc.json", "result.json", "froc.png",
        "findings.png", "training.png",
    }  # fmt: skip


def test_the_result_has_everything_that_tuning_reads(done):
    folder, _ = done
    result = result_of(folder)
    froc = json.loads(folder.froc.read_text())
    assert result.status is RunStatus.COMPLETE
    assert result.step == 3 * 12 // 2
    assert (result.pauc, result.pauc_se) == (froc["pauc"], froc["pauc_se"])
    assert result.pauc_interval[0] <= result.pauc <= result.pauc_interval[1]
    assert len(result.pauc_influence) == 3  # one for each patient
    assert sum(result.pauc_influence.values()) == pytest.approx(0, abs=1e-3)
    assert (result.n_validation_scans, result.n_validation_lesions) == (3, 3 * 2)
    _, meta = load_model(folder.checkpoint_best)
    assert meta.step == result.best_step
    assert result.peak_memory_bytes > 100e6
    assert result.n_parameters == sum(
        t.numel() for name, t in parameters(folder) if "running" not in name
    )


def parameters(folder):
    model, _ = load_model(folder.checkpoint_best)
    return list(model.named_parameters())


def test_metrics_have_every_step_and_validation_once(done):
    folder, _ = done
    rows = read_jsonl(folder.metrics)
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1, 2, 3]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [18]
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)


def test_the_best_validation_is_the_one_reported(done):
    folder, _ = done
    figures = {r["step"]: r["pauc"] for r in read_jsonl(folder.metrics) if r["kind"] != "train"}
    result = result_of(folder)
    assert result.pauc == max(figures.values()) == figures[result.best_step]


def test_the_environment_has_versions_but_no_person(done):
    folder, _ = done
    about = json.loads(folder.environment.read_text())
    assert about["packages"]["torch"] == torch.__version__
    assert about["device"] == "cpu"
    assert os.environ.get("USER", "nobody@nowhere") not in about.values()


def test_what_parts_below_the_training_report_is_in_the_log(store, tmp_path, monkeypatch):
    def report(device, dtype):
        logging.getLogger("nodule_det.model.device").info("an accelerator, cuDNN 92000")

    monkeypatch.setattr("nodule_det.train.run.set_up_backends", report)
    config = tiny(store, tmp_path / "run")
    assert run(replace(config, limits=LimitConfig(wall_s=0.001))) == ExitCode.STOPPED
    assert "INFO an accelerator, cuDNN 92000" in RunFolder(tmp_path / "run").log.read_text()
    assert logging.getLogger("nodule_det").propagate


def test_a_complete_run_prints_its_result_again_and_does_no_work(done, capsys):
    folder, config = done
    before = folder.checkpoint_last.stat().st_mtime_ns
    assert run(config) == ExitCode.COMPLETE
    assert capsys.readouterr().out.startswith("pAUC ")
    assert folder.checkpoint_last.stat().st_mtime_ns == before


def test_a_setting_that_differs_is_refused_by_name(done):
    _, config = done
    with pytest.raises(ConfigError, match="holds a run with seed=0 but seed=1 was requested"):
        run(replace(config, seed=1))


def test_time_limits_may_differ(done):
    _, config = done
    limits = replace(config.limits, wall_s=1e6, checkpoint_s=5.0)
    assert run(replace(config, limits=limits)) == ExitCode.COMPLETE


def test_a_folder_in_use_is_refused_with_its_holder(done):
    folder, config = done
    with (
        held(folder),
        pytest.raises(BusyError, match=rf"another training: held by process {os.getpid()} on "),
    ):
        run(config)


def test_a_folder_in_use_has_its_own_exit_code(done):
    folder, config = done
    with held(folder):
        words = [f"run_dir={folder.path}", f"store={config.store}"]
        process = subprocess.run(
            [sys.executable, "-m", "nodule_det.train", *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert process.returncode == ExitCode.BUSY
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_run_needs_no_flock(store, tmp_path, monkeypatch, number):
    def flock(fd, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    config = tiny(store, tmp_path / "run", epochs=1)
    with held(RunFolder(tmp_path / "run")), pytest.raises(BusyError):
        run(config)
    stopped = replace(config, limits=replace(config.limits, wall_s=0.001))
    assert run(stopped) == ExitCode.STOPPED


def test_a_folder_that_cannot_be_created_is_refused(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        run(tiny(store, tmp_path / "file" / "run"))


def test_a_missing_store_is_refused_with_the_command_that_creates_one(tmp_path):
    config = tiny(tmp_path / "nowhere", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"is not a store.*python -m nodule_det\.data"):
        run(config)
    assert list(tmp_path.iterdir()) == []


def test_a_fold_without_scans_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match=r"fold=7 has no scans .* it has \[0, 1\]"):
        run(replace(tiny(store, tmp_path / "run"), fold=7))
    assert list(tmp_path.iterdir()) == []


def test_patches_larger_than_a_scan_are_refused_before_a_folder_is_created(store, tmp_path):
    large = PatchConfig(size_vox=64, per_epoch=12)
    with pytest.raises(ConfigError, match=r"patches.size_vox=64 is larger than the lung box"):
        run(replace(tiny(store, tmp_path / "run"), patches=large))
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_store_has_vanished_reports_it_in_its_result(halfway, tmp_path, store):
    config, folder = halfway
    elsewhere = tmp_path / "moved"
    folder.config.write_text(folder.config.read_text().replace(str(store), str(elsewhere)))
    with pytest.raises(StoreError, match="is not a store"):
        run(replace(config, store=str(elsewhere)))
    assert result_of(folder).status is RunStatus.FAILED


def test_a_run_repeated_with_its_seed_is_identical_bit_for_bit(done, store, tmp_path):
    folder, _ = done
    run(tiny(store, tmp_path))
    assert same_bits(folder.checkpoint_last, RunFolder(tmp_path).checkpoint_last)


def test_two_runs_in_one_process_keep_their_logs_apart(store, tmp_path):
    for name in ("a", "b"):
        run(tiny(store, tmp_path / name, epochs=1))
    for name in ("a", "b"):
        text = RunFolder(tmp_path / name).log.read_text()
        assert text.count("complete at step 6") == 1


def test_smoke_runs_make_two_steps(store, tmp_path):
    run(replace(tiny(store, tmp_path), fast=True, model=ModelConfig(depth=4, filters=32)))
    result = result_of(RunFolder(tmp_path))
    assert (result.step, result.n_validation_scans) == (2, 2)
    assert yaml.safe_load(RunFolder(tmp_path).config.read_text())["model"]["filters"] == 4


def test_peaks_not_examined_are_counted_and_reported_once(store, tmp_path, capsys):
    most = CandidateConfig(max_per_scan=1, threshold=0.0)
    run(replace(tiny(store, tmp_path), candidates=most))
    folder = RunFolder(tmp_path)
    result = result_of(folder)
    assert result.n_candidates_dropped > 0
    rows = {r["step"]: r for r in read_jsonl(folder.metrics) if r["kind"] == "validation"}
    assert rows[result.best_step]["n_dropped"] == result.n_candidates_dropped
    assert rows[result.best_step]["n_candidates"] == 3
    assert folder.log.read_text().count("candidates.max_per_scan=1 highest;") == 1
    said = f"({result.n_candidates_dropped:,} lower peaks not examined: candidates.max_per_scan)"
    assert said in capsys.readouterr().out


def test_a_run_that_examined_all_peaks_reports_none(store, tmp_path):
    run(replace(tiny(store, tmp_path, epochs=1), candidates=CandidateConfig(threshold=1.0)))
    folder = RunFolder(tmp_path)
    assert result_of(folder).n_candidates_dropped == 0
    assert "max_per_scan" not in folder.log.read_text()


def test_a_run_without_improvement_stops_early(store, tmp_path):
    config = tiny(store, tmp_path, epochs=12)
    slow = replace(config.optim, lr=1e-8)  # weights that hardly move find what they found before
    patient = ValidationConfig(every_epochs=1, bootstrap=100, patience=2)
    run(replace(config, optim=slow, validation=patient))
    result = result_of(RunFolder(tmp_path))
    assert result.status is RunStatus.COMPLETE
    assert result.step < 12 * 6


def poison(path, change):
    """Damage a checkpoint as a failing disk or a confused user would."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.fixture
def halfway(store, tmp_path):
    """Return the settings and folder of a run that stopped at its wall-clock limit at once."""
    config = tiny(store, tmp_path / "run")
    assert run(replace(config, limits=LimitConfig(epochs=3, wall_s=0.001))) == ExitCode.STOPPED
    return config, RunFolder(config.run_dir)


def test_a_loss_that_is_not_a_number_fails_the_run(halfway):
    config, folder = halfway

    def make_huge(content):
        next(iter(content["weights"].values())).fill_(3e38)  # finite, and its sums are not

    poison(folder.checkpoint_last, make_huge)
    with pytest.raises(DivergedError, match=r"not finite at step \d+ with optim.lr=0.001"):
        run(config)
    result = result_of(folder)
    assert (result.status, result.reason) == (RunStatus.FAILED, "diverged")
    assert DivergedError.exit_code == ExitCode.DIVERGED == 86


def test_a_damaged_checkpoint_is_refused_by_name(halfway):
    config, folder = halfway
    content = folder.checkpoint_last.read_bytes()
    folder.checkpoint_last.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be read .* damaged"):
        run(config)


def test_a_checkpoint_of_another_architecture_is_refused(halfway, store, tmp_path):
    config, folder = halfway
    other = replace(tiny(store, tmp_path / "other"), model=ModelConfig(depth=2, filters=6))
    run(replace(other, limits=LimitConfig(epochs=3, wall_s=0.001)))
    folder.checkpoint_last.write_bytes(RunFolder(other.run_dir).checkpoint_last.read_bytes())
    with pytest.raises(CheckpointError, match=r"of another architecture .*'filters': 6"):
        run(config)


def test_a_checkpoint_without_training_state_is_refused(halfway):
    config, folder = halfway
    poison(folder.checkpoint_last, lambda content: content.update(training=None))
    with pytest.raises(CheckpointError, match="has only weights"):
        run(config)


def test_a_checkpoint_of_another_voxel_size_is_refused(halfway):
    config, folder = halfway
    poison(folder.checkpoint_last, lambda content: content["meta"].update(spacing_mm=0.5))
    with pytest.raises(CheckpointError, match=r"voxels of 0\.5 mm, .* has 1\.0 mm"):
        run(config)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda training: training.pop("optimizer"),
        lambda training: training.update(optimizer=[1]),
        lambda training: training.update(state={"stp": 1}),
        lambda training: training["optimizer"].update(param_groups=[]),
    ],
)
def test_a_damaged_training_state_is_refused_by_name(halfway, spoil):
    config, folder = halfway
    poison(folder.checkpoint_last, lambda content: spoil(content["training"]))
    with pytest.raises(CheckpointError, match=r"last\.pt has a training state that does not fit"):
        run(config)


@pytest.mark.parametrize(
    "text",
    ["", "seed: [", "- 1\n", "1: 2\n", "seed: !!python/object:x {}\n", "a: &a {b: *a}\n", "\0",
     "[" * 5000, "seed: 2001-99-99\n"],
)  # fmt: skip
def test_damaged_settings_are_refused_by_name(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.config.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml is damaged \(.*restore it") as error:
        refuse_other_settings(folder, tiny(tmp_path, tmp_path))
    assert "\n" not in str(error.value)


def test_metrics_without_a_step_are_removed(tmp_path):
    folder = RunFolder(tmp_path)
    folder.metrics.write_text(
        '{"kind": "training", "step": 1}\n{"kind": "training"}\n{"step": "x"}\n'
        '{"kind": "validation", "epoch": null}\n{"kind": "validation", "epoch": 1}\n'
    )
    cut_metrics(folder, step=2, validated=1)
    assert read_jsonl(folder.metrics) == [
        {"kind": "training", "step": 1},
        {"kind": "validation", "epoch": 1},
    ]


def test_a_damaged_result_is_refused_by_name(halfway):
    config, folder = halfway
    folder.result.write_text("{")
    with pytest.raises(ConfigError, match=r"result\.json is damaged .* delete it"):
        run(config)
