"""What the driver would start next, for the example of every kind of site."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig
from nodule_det.hpo.dispatch import job_script
from nodule_det.hpo.driver.dry_run import preview
from nodule_det.hpo.study.inbox import enqueue, enqueue_cancel
from nodule_det.hpo.study.study import StudyFolder

CONF = Path(__file__).parents[3] / "conf" / "dispatcher"
FIXED = "-r n -j oe -o {log}"


def config_of(site, study, **settings):
    values = yaml.safe_load((CONF / f"{site}.yaml").read_text())
    values["kind"] = DispatcherKind(values["kind"])
    return HpoConfig(study=str(study), dispatcher=DispatcherConfig(**values), **settings)


@pytest.mark.parametrize(
    ("site", "given", "resources", "variables"),
    [
        (
            "gadi",
            "-P xx00 -l ncpus=12,ngpus=1,mem=90GB,jobfs=16GB -l storage=gdata/xx00+scratch/xx00",
            "-q gpuvolta -l walltime=24:00:00",
            "",
        ),
        ("abci3", "-P gaa50000", "-q rt_HG -l select=1 -l walltime=24:00:00", ",USE_SSH=1"),
        (
            "cx3",
            "",
            "-l select=1:ncpus=8:mem=48gb:ngpus=1:gpu_type=L40S -l walltime=72:00:00",
            "",
        ),
        (
            "miyabi",
            "-W group_list=gx00",
            "-q regular-g -l select=1 -l walltime=24:00:00",
            "",
        ),
        (
            "nas",
            "-W group_list=s0001 -l place=vscatter:shared -l site=needed=/home1+/nobackupp12",
            "-q v100@pbspl4 -l select=1:ncpus=9:ngpus=1:mem=90g:model=sky_gpu -l walltime=24:00:00",
            "",
        ),
        (
            "reedbush",
            "-W group_list=gXX",
            "-q h-regular -l select=1:mpiprocs=1:ompthreads=18 -l walltime=24:00:00",
            "",
        ),
    ],
)
def test_the_example_of_a_site_gives_this_qsub_command(tmp_path, site, given, resources, variables):
    text = preview(StudyFolder(tmp_path / "s"), config_of(site, tmp_path / "s"))
    folder = tmp_path / "s" / "trials" / "0001" / "attempt_1"
    name, words = shlex.split(text.splitlines()[-1])[1:], shlex.split(given)
    assert name[: len(words)] == words
    name = name[len(words) :]
    assert name[0] == "-N"
    assert name[1].startswith("nd-")
    ours = f"-r n -j oe -o {folder}/job.log {resources} -v NODULE_JOB={folder}{variables}"
    assert name[2:] == [*shlex.split(ours), str(job_script())]
    assert not (tmp_path / "s").exists()


def test_the_job_script_of_a_container_site_checks_its_setup_and_enters_the_container(tmp_path):
    lines = preview(StudyFolder(tmp_path), config_of("abci3", tmp_path)).splitlines()
    setup = lines.index("module load singularitypro")
    assert lines[setup - 2 : setup + 2] == [
        "trap setup_failed ERR",
        ". /etc/profile.d/modules.sh",
        "module load singularitypro",
        "trap - ERR",
    ]
    assert any(
        line.startswith(
            "exec singularity exec --nv /groups/gaa50000/nodule_det.sif python3 -m nodule_det.train"
        )
        for line in lines
    )


def first_line(lab):
    config = HpoConfig(
        study=str(lab.folder.path),
        workers=lab.config.workers,
        trials=lab.config.trials,
        search_space=str(lab.folder.path.parent / "space.yaml"),
        command=["mine"],
        acquisition=lab.config.acquisition,
    )
    return preview(lab.folder, config).splitlines()[0]


@pytest.fixture
def started(lab, tmp_path):
    """Return a study of one worker whose second trial of two is still to come."""
    space = {"parameters": {"optim.lr": {"kind": "float", "low": 0.001, "high": 0.01}}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    made = lab(workers=1, trials=2)
    made.start().try_step()
    journal = made.folder.journal
    lines = journal.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"command": ["mine"]})
    journal.write_text("\n".join(lines) + "\n")
    return made


def test_the_next_trial_is_the_one_that_the_driver_would_start(started):
    before = started.folder.journal.read_bytes()
    assert first_line(started).startswith("# trial 2 (random), ")
    path = enqueue(started.folder.queue, {"optim.lr": 0.005})
    assert first_line(started).startswith("# trial 2 (user), ")
    assert path.exists()
    assert started.folder.journal.read_bytes() == before


def test_a_study_with_all_its_trials_starts_nothing_more(started):
    started.config.trials = 1
    assert first_line(started) == "# no trial would be started: 1 of trials=1 exist"
    enqueue_cancel(started.folder.queue, 1)
    assert first_line(started) == "# no trial would be started: 1 of trials=1 exist"
