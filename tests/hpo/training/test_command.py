import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.config.train import Device, OptimConfig, TrainConfig
from nodule_det.hpo.dispatch.base import Job
from nodule_det.hpo.training.command import (
    _CHECKED,
    as_override,
    command_words,
    job_script_text,
    overrides,
    write_job,
)


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
def test_overrides_are_written_in_hydras_syntax(value, text):
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
        f"cd {tmp_path} || {{ echo 'error: cannot enter' {tmp_path} >&2; exit 2; }}\n"
        + "\n".join(_CHECKED)
        + "\nmodule load cuda\n"
        "trap - ERR\n"
        "export OMP_NUM_THREADS=8\n"
        "exec apptainer exec --nv image.sif python3 -m nodule_det.train fold=1 "
        f"limits.wall_s=86100.0 optim.lr=0.0001 run_dir={run_dir}\n"
    )
    assert (run_dir / "overrides.txt").read_text().splitlines()[-1] == f"run_dir={run_dir}"


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        (["true", "nosuch load cuda/99"], "exit code 127 at: nosuch load cuda/99"),
        (["module() { return 3; }; module load a; true"], "exit code 3 at: module() { ret"),
        (["source /no/such/activate"], "exit code 1 at: source /no/such/activate"),
        (["for i in 1 2; do", "false", "done"], "exit code 1 at: false"),
        (["x=$(exit 4)"], "exit code 4 at: x=$(exit 4)"),
        (["echo false > inner.sh; . ./inner.sh"], "exit code 1 at: echo false > inner.sh"),
    ],
)
def test_a_setup_line_that_fails_ends_the_job_and_is_named(tmp_path, setup, said):
    run = run_job(tmp_path, setup)
    assert (run.returncode, run.stdout) == (2, "")
    assert f"error: dispatcher.setup failed with {said}" in run.stderr


@pytest.mark.parametrize(
    "setup",
    [
        [],
        ["false || true", "if false; then :; fi", "[ -n '' ] && echo x", "! true"],
        ["echo 'false; ls /nope 2>&-; true' > inner.sh", ". ./inner.sh"],  # not written for set -e
        ["f() { false; true; }", "f"],
    ],
)
def test_setup_lines_that_succeed_let_the_training_run(tmp_path, setup):
    run = run_job(tmp_path, setup)
    assert (run.returncode, run.stdout, run.stderr) == (0, "trained\n", "")


def test_a_failing_training_is_not_mistaken_for_a_failing_setup(tmp_path):
    run = run_job(tmp_path, ["true"], ["bash", "-c", "exit 7"])
    assert (run.returncode, run.stderr) == (7, "")


def test_a_working_folder_that_is_missing_on_a_node_is_reported(tmp_path):
    run = run_job(tmp_path / "nowhere", [])
    assert run.returncode == 2
    assert f"error: cannot enter {tmp_path}/nowhere\n" in run.stderr


def run_job(workdir, setup, words=("echo", "trained")):
    script = workdir.parent / "job.sh"
    script.write_text(job_script_text(words, DispatcherConfig(setup=setup), workdir))
    return subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)


def test_a_wall_clock_limit_of_the_user_is_kept(tmp_path):
    site = DispatcherConfig(walltime_s=86400)
    words = command_words(("t",), ("limits.wall_s=60.0",), {}, tmp_path, site)
    assert shlex.join(words) == f"t limits.wall_s=60.0 run_dir={tmp_path}"


def test_a_folder_with_blanks_reaches_our_training_and_other_programs():
    folder, site = Path("/my studies/a, 'b'/0001"), DispatcherConfig()
    ours = command_words((), (), {}, folder, site)[-1]
    assert OverridesParser.create().parse_override(ours).value() == str(folder)
    assert command_words(("t",), (), {}, folder, site)[-1] == f"run_dir={folder}"


def test_several_processes_are_started_by_the_launcher(tmp_path):
    config = DispatcherConfig(python="python3", container="apptainer exec x", processes_per_job=2)
    words = command_words((), ["seed=1"], {"optim.lr": 0.1}, tmp_path, config)
    assert words[:7] == [
        "apptainer", "exec", "x", "python3", "-m", "nodule_det.train.launch", "2",
    ]  # fmt: skip
    assert words[7:] == ["seed=1", "optim.lr=0.1", f"run_dir={tmp_path}"]


def test_a_dictionary_of_arguments_reaches_the_training_unchanged():
    kwargs = {"spatial_dims": 3, "norm": "batch", "strides": [1, 2], "rate": 1e-05, "act": ["prelu",
              {"init": 0.2}], "deep": False, "name": None, "text": "a b"}  # fmt: skip
    word = as_override("model.kwargs", kwargs)
    assert OverridesParser.create().parse_override(word).value() == kwargs
