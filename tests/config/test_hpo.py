"""Settings of a study that cannot work are refused before a job is started."""

from contextlib import nullcontext

import pytest

from nodule_det.config.hpo import (
    JOB_ID,
    AcquisitionConfig,
    ConstraintConfig,
    DispatcherConfig,
    DispatcherKind,
    Failures,
    HpoConfig,
    require_job_path,
    require_study,
)
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"walltime_s": 300}, r"walltime_s=300 leaves no time to train .*margin_s=300; lower the"),
        ({"environment": {"2X": "1"}}, r"environment\.2X is not a valid variable name"),
        ({"poll_s": 0}, r"dispatcher\.poll_s=0 must lie in"),
        ({"kind": DispatcherKind.pbs, "gpus": [0]}, r"gpus=\[0\] is for the local dispatcher"),
    ],
)
def test_a_dispatcher_that_cannot_work_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        DispatcherConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, r"workers=0 must lie in"),
        ({"train": TrainConfig(run_dir="x")}, r"train\.run_dir=x cannot be set: each trial has"),
        ({"objective": "a,b"}, r"objective=a,b must be the name of one number"),
        ({"workers": 3, "dispatcher": DispatcherConfig(gpus=[0, 1])}, r"workers=3 is more than"),
        (
            {"objective": "loss", "acquisition": AcquisitionConfig(failures=Failures.zero)},
            r"use acquisition\.failures=model with objective=loss",
        ),
        (
            {"constraints": [ConstraintConfig(name="s", max=1), ConstraintConfig(name="s", min=0)]},
            r"constraints=\['s', 's'\] name a number twice; set its max and min in one entry",
        ),
    ],
)
def test_a_study_that_cannot_work_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        HpoConfig(study="s", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max": 1}, r"constraints: name= must be the name of one number in result\.json"),
        ({"name": "a b", "max": 1}, r"constraints: name=a b must be the name"),
        ({"name": "s"}, r"constraints: s has no limit; add max or min"),
        ({"name": "s", "max": float("nan")}, r"constraints: s has the limit nan; use a number"),
        ({"name": "s", "min": 2, "max": 1}, r"s has min=2 above max=1, which no training can meet"),
    ],
)
def test_a_constraint_that_cannot_be_met_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ConstraintConfig(**settings)


def test_two_jobs_may_share_a_gpu_that_is_listed_twice():
    HpoConfig(study="s", workers=2, dispatcher=DispatcherConfig(gpus=[0, 0]))


ORDINARY = ["studies/a", "/scratch/user@site/s-1.2", "~/a+b_c"]


SITES = {kind: DispatcherConfig(kind=kind) for kind in DispatcherKind}
PBS_OVER_SLURM = DispatcherConfig(kind=DispatcherKind.pbs, join_resources=True)


@pytest.mark.parametrize("site", [*SITES.values(), PBS_OVER_SLURM])
@pytest.mark.parametrize("study", ORDINARY)
def test_an_ordinary_path_is_a_study_of_every_batch_system(study, site):
    require_study(study)
    require_job_path(study, site)


@pytest.mark.parametrize("study", ["", "a\n", "a\tb", "\x1b[1m"])
def test_a_path_that_cannot_be_printed_is_not_a_study(study):
    with pytest.raises(ConfigError, match=r"^study"):
        require_study(study)


@pytest.mark.parametrize(
    ("study", "pbs", "slurm"),
    [
        ("my study (1)", True, True),
        ("a,b:c", False, True),
        ("$HOME/s;'x'=[1]", False, True),
        ("Jürgen/肺", False, True),
        ("run%j", False, False),
        ("a\\b", False, False),
    ],
)
def test_a_path_is_refused_only_by_the_batch_systems_that_mangle_it(study, pbs, slurm):
    require_study(study)
    require_job_path(study, SITES[DispatcherKind.local])
    sites = {DispatcherKind.pbs: pbs, DispatcherKind.slurm: slurm}
    for site, fine in (*((SITES[k], v) for k, v in sites.items()), (PBS_OVER_SLURM, False)):
        with nullcontext() if fine else pytest.raises(ConfigError, match=r"mangles; use another"):
            require_job_path(study, site)


def test_ids_of_all_batch_systems_are_accepted_and_options_are_not():
    assert all(JOB_ID.fullmatch(i) for i in ("42", "17.pbs-1.site.org", "9[3].srv", "12_4"))
    assert not any(JOB_ID.fullmatch(i) for i in ("", "-x", "1 2", "1;2", "a" * 201))


@pytest.mark.parametrize("kind", list(DispatcherKind))
def test_processes_of_a_job_are_for_our_own_training(kind):
    site = DispatcherConfig(kind=kind, processes_per_job=2)
    assert HpoConfig(study="s", dispatcher=site).dispatcher.processes_per_job == 2
    with pytest.raises(ConfigError, match=r"processes_per_job=2 is only for .*\['my'\] start its"):
        HpoConfig(study="s", dispatcher=site, command=["my"])


def test_processes_of_a_job_do_not_share_one_listed_gpu():
    with pytest.raises(ConfigError, match=r"processes_per_job=2 needs several GPUs per job"):
        DispatcherConfig(processes_per_job=2, gpus=[0, 1])
