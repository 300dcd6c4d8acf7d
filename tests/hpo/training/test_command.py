import shlex
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.config.train import Device, OptimConfig, TrainConfig
from nodule_det.errors import ConfigError
from nodule_det.files import append_jsonl, write_json
from nodule_det.hpo.dispatch.base import Job
from nodule_det.hpo.space.parsing import parse_space, read_space
from nodule_det.hpo.study.trial import Reason
from nodule_det.hpo.training.command import (
    as_override,
    check_space,
    command_words,
    overrides,
    put_away_failure,
    read_curve,
    read_outcome,
    with_params,
    write_job,
)
from nodule_det.runs import RunFolder, RunResult, RunStatus


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-08, "1e-08"),
        (0.1, "0.1"),
        (True, "true"),
        (None, "null"),
        (Device.cuda, "cuda"),
        ("stores/a", "stores/a"),
        ("it's a, b", r"'it\'s a, b'"),
        (7, "7"),
    ],
)
def test_an_override_is_written_as_hydra_reads_it(value, text):
    assert as_override("x", value) == f"x={text}"


TRICKY = st.sampled_from(
    [
        *("true", "False", "NULL", "inf", "Nan", "-inf", "+nan", ".5", "1e3", "0x1", "1_000", "-7"),
        *(
            "05",
            "~home",
            "a~b",
            "../x",
            "a,b",
            "[1]",
            "{a: 1}",
            "${x}",
            r"\${x}",
            "a=b",
            "f(1)",
            "",
        ),
    ]
)
TEXTS = st.text(st.sampled_from(" \\'\"${}~ae1._/-+=,:[]()#@%\n\té"), max_size=8)
VALUES = st.booleans() | st.none() | st.integers() | st.floats(allow_nan=False) | TRICKY | TEXTS


@settings(max_examples=500)
@given(VALUES)
def test_hydra_reads_every_value_back_with_its_type(value):
    override = OverridesParser.create().parse_override(as_override("a.b", value))
    assert override.key_or_group == "a.b"
    read = OmegaConf.create({"b": override.value()})["b"]  # resolves interpolations
    assert (read, type(read)) == (value, type(value))


def test_only_the_settings_that_differ_are_passed_on():
    config = TrainConfig(store="stores/luna16", fold=2, optim=OptimConfig(lr=1e-4))
    assert overrides(config, TrainConfig()) == ["store=stores/luna16", "fold=2", "optim.lr=0.0001"]


def test_overrides_reach_the_train_command_unchanged(tmp_path):
    config = TrainConfig(store="my stores/a, b", optim=OptimConfig(lr=1e-8))
    words = [sys.executable, "-m", "nodule_det.train", *overrides(config, TrainConfig())]
    run = subprocess.run([*words, "--cfg", "job"], capture_output=True, text=True, check=True)
    assert "store: my stores/a, b\n" in run.stdout
    assert "lr: 1.0e-08\n" in run.stdout


def test_nomura_suits_the_train_command():
    check_space(read_space("nomura"), TrainConfig())


@pytest.mark.parametrize(
    ("name", "parameter", "words"),
    [
        ("optim.lrr", {"kind": "bool"}, "has optim.lrr, which is no setting of the train command"),
        (
            "model.filters",
            {"kind": "int", "low": 1, "high": 32},
            r"allows model.filters=1, which the train command refuses: model.filters=1 must be one",
        ),
        ("model.residual", {"kind": "int", "low": 0, "high": 1}, "must be of type bool"),
        (
            "augment.shift_vox",
            {"kind": "int", "low": 0, "high": 32},
            "is more than half of patches.size_vox=32",
        ),
    ],
)
def test_a_space_that_the_training_refuses_is_refused_first(name, parameter, words):
    space = parse_space({"parameters": {name: parameter}})
    with pytest.raises(ConfigError, match=words):
        check_space(space, TrainConfig())


def test_settings_are_changed_by_their_dotted_names():
    config = with_params(TrainConfig(), {"optim.lr": 1e-4, "fold": 3, "device": "cpu"})
    assert (config.optim.lr, config.fold, config.device) == (1e-4, 3, Device.cpu)


def test_the_job_script_is_one_command_after_the_setup_of_the_site(tmp_path):
    site = DispatcherConfig(
        python="python3",
        container="apptainer exec --nv image.sif",
        setup=["module load cuda"],
        environment={"OMP_NUM_THREADS": "8"},
        walltime_s=86400,
    )
    run_dir = tmp_path / "0001"
    words = command_words((), ("fold=1",), {"optim.lr": 1e-4}, run_dir, site)
    write_job(Job("nd", run_dir / "attempt_1"), words, site, tmp_path)
    assert (run_dir / "attempt_1" / "job.sh").read_text() == (
        f"cd {tmp_path} || exit 2\n"
        "module load cuda\n"
        "export OMP_NUM_THREADS=8\n"
        "exec apptainer exec --nv image.sif python3 -m nodule_det.train fold=1 "
        f"limits.wall_s=86100.0 optim.lr=0.0001 run_dir={run_dir}\n"
    )
    assert (run_dir / "overrides.txt").read_text().splitlines()[-1] == f"run_dir={run_dir}"


def test_a_wall_clock_limit_that_was_given_is_kept(tmp_path):
    site = DispatcherConfig(walltime_s=86400)
    words = command_words(("t",), ("limits.wall_s=60.0",), {}, tmp_path, site)
    assert shlex.join(words) == f"t limits.wall_s=60.0 run_dir={tmp_path}"


def outcome(tmp_path, code=None, **result):
    attempt = tmp_path / "attempt_1"
    attempt.mkdir()
    (attempt / "claim").write_text("7.pbs node1 1000.5\n")
    if code is not None:
        (attempt / "exit_code").write_text(f"{code} 1060.5\n")
    if result:
        write_json(RunFolder(tmp_path).result, RunResult(**result).as_dict())
    return read_outcome(tmp_path, attempt)


FAILED, STOPPED, RUNNING = RunStatus.FAILED, RunStatus.STOPPED, RunStatus.RUNNING


@pytest.mark.parametrize(
    ("code", "result", "reason"),
    [
        (0, {"status": RunStatus.COMPLETE, "pauc": 0.5}, None),
        (None, {"status": RunStatus.COMPLETE, "pauc": 0.5}, None),  # killed after its last word
        (1, {"status": RunStatus.COMPLETE, "pauc": 0.5}, None),
        (85, {"status": STOPPED, "reason": "wall_clock"}, Reason.STOPPED),
        (None, {"status": STOPPED, "reason": "sigterm"}, Reason.STOPPED),
        (86, {"status": FAILED, "reason": "diverged"}, Reason.DIVERGED),
        (87, {"status": FAILED, "reason": "out_of_memory"}, Reason.OUT_OF_MEMORY),
        (None, {"status": FAILED, "reason": "out_of_memory"}, Reason.OUT_OF_MEMORY),
        (2, {}, Reason.BAD_INPUT),
        (1, {"status": FAILED, "reason": "error"}, Reason.ERROR),
        (137, {"status": RUNNING}, Reason.KILLED),
        (None, {"status": RUNNING}, Reason.LOST),
        (None, {}, Reason.LOST),
        (0, {}, Reason.ERROR),
    ],
)
def test_exit_code_and_result_tell_how_a_job_ended(tmp_path, code, result, reason):
    assert outcome(tmp_path, code, **result).reason is reason


@pytest.mark.parametrize("status", [STOPPED, FAILED, RUNNING])
def test_a_job_that_never_began_is_lost_whatever_an_earlier_one_left(tmp_path, status):
    write_json(RunFolder(tmp_path).result, RunResult(status=status, reason="sigterm").as_dict())
    (tmp_path / "attempt_2").mkdir()
    assert read_outcome(tmp_path, tmp_path / "attempt_2").reason is Reason.LOST


def test_times_are_those_that_the_job_wrote(tmp_path):
    seen = outcome(tmp_path, 0, status=RunStatus.COMPLETE, pauc=0.5, pauc_se=0.01)
    assert (seen.started_s, seen.ended_s, seen.value, seen.value_se) == (1000.5, 1060.5, 0.5, 0.01)


def test_a_damaged_result_leaves_the_word_to_the_exit_code(tmp_path):
    RunFolder(tmp_path).result.write_text("{")
    assert outcome(tmp_path, 86).reason is Reason.DIVERGED


def test_the_result_of_a_failed_attempt_does_not_speak_for_the_next(tmp_path):
    outcome(tmp_path, 1, status=FAILED, reason="error")
    put_away_failure(tmp_path, tmp_path / "attempt_1")
    assert not RunFolder(tmp_path).result.exists()
    assert (tmp_path / "attempt_1" / "result.json").exists()


def test_the_curve_is_that_of_the_validations(tmp_path):
    path = RunFolder(tmp_path).metrics
    append_jsonl(path, {"kind": "train", "step": 1, "loss": 0.5})
    append_jsonl(path, {"kind": "validation", "epoch": 5, "pauc": 0.25, "pauc_se": 0.02})
    append_jsonl(path, {"kind": "validation", "epoch": 10, "pauc": None, "pauc_se": None})
    append_jsonl(path, {"kind": "validation", "pauc": 0.5})
    with open(path, "a", encoding="utf-8") as f:  # as json.dumps writes it
        f.write('{"kind": "validation", "epoch": 15, "pauc": NaN, "pauc_se": 0.1}\n')
    assert [(o.epoch, o.value, o.se) for o in read_curve(tmp_path)] == [(5, 0.25, 0.02)]


PBS_WORDS = "=>> PBS: job killed: mem 379112kb exceeded limit 102400kb"
SLURM_WORDS = (
    "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch. Some of the step tasks have "
    "been OOM Killed."
)


@pytest.mark.parametrize("words", [PBS_WORDS, SLURM_WORDS, "Cgroup mem limit exceeded: job 7"])
@pytest.mark.parametrize("code", [None, 137, 143, 85])
def test_a_job_killed_for_its_memory_is_told_by_its_log(tmp_path, words, code):
    outcome(tmp_path, code, status=RUNNING)
    (tmp_path / "attempt_1" / "job.log").write_text(f"epoch 1 ...\n{words}\n")
    seen = read_outcome(tmp_path, tmp_path / "attempt_1")
    assert seen.reason is Reason.OUT_OF_MEMORY
    assert seen.message == f"killed by the batch system: {words}"


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("OUT_OF_MEMORY OutOfMemory\nunknown\n", Reason.OUT_OF_MEMORY),
        (
            "Job run at Mon Nov 23 at 02:36 on (pbs01:mem=102400kb) and exceeded resource mem",
            Reason.OUT_OF_MEMORY,
        ),
        ("Job run at Mon Nov 23 at 02:33 on (pbs01) and exceeded resource walltime", Reason.LOST),
        ("NODE_FAIL None", Reason.LOST),
        ("", Reason.LOST),
    ],
)
def test_a_job_killed_for_its_memory_is_told_by_the_batch_system(tmp_path, comment, reason):
    outcome(tmp_path, status=RUNNING)
    assert read_outcome(tmp_path, tmp_path / "attempt_1", comment).reason is reason


def test_a_training_that_talks_of_memory_was_not_killed_for_it(tmp_path):
    outcome(tmp_path, 137, status=RUNNING)
    (tmp_path / "attempt_1" / "job.log").write_text("peak memory 3 GB, below the memory limit\n")
    assert read_outcome(tmp_path, tmp_path / "attempt_1").reason is Reason.KILLED


@pytest.mark.parametrize(
    "words",
    [
        "=>> PBS: job killed: walltime 46 exceeded limit 12",  # recorded from OpenPBS 23.06.06
        "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-23T02:00:00 DUE TO TIME LIMIT ***",
    ],
)
def test_a_killed_job_is_explained_by_the_batch_system(tmp_path, words):
    outcome(tmp_path, 143, status=RUNNING)
    (tmp_path / "attempt_1" / "job.log").write_text(f"epoch 1 ...\n{words}\nTerminated\n")
    seen = read_outcome(tmp_path, tmp_path / "attempt_1")
    assert (seen.reason, seen.message) == (Reason.KILLED, f"killed by signal 15: {words}")


def test_words_about_memory_do_not_undo_a_result(tmp_path):
    outcome(tmp_path, 0, status=RunStatus.COMPLETE, pauc=0.5)
    (tmp_path / "attempt_1" / "job.log").write_text(SLURM_WORDS)
    assert read_outcome(tmp_path, tmp_path / "attempt_1").reason is None
