"""What a session asks of the study that it goes on with."""

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError, StudyError
from nodule_det.hpo.dispatch.local import LocalDispatcher
from nodule_det.hpo.driver import open_study as opening
from nodule_det.hpo.driver.open_study import missing_store, require_reachable
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.study import Header, StudyFolder, StudyWriter

SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2}}})
LOCAL = DispatcherConfig()
SLURM = DispatcherConfig(kind=DispatcherKind.slurm)


@pytest.fixture
def writer(tmp_path):
    writer = StudyWriter(StudyFolder(tmp_path), lambda: 0.0, Header(id="cafe", space=SPACE))
    yield writer
    writer.close()


def give(writer, dispatcher, job):
    writer.start_session(1, dispatcher)
    writer.ask({"optim.lr": 1e-3}, "random")
    writer.write("intent", trial=1, attempt=1, name="nd-cafe-1-1")
    if job:
        writer.write("submitted", trial=1, attempt=1, job=job)


def test_another_batch_system_is_refused_while_jobs_are_open(writer):
    give(writer, "pbs", "5.pbs01")
    for other in (LOCAL, SLURM):
        with pytest.raises(StudyError, match="1 jobs of this study were given to pbs and may"):
            require_reachable(writer.study, other)
    require_reachable(writer.study, DispatcherConfig(kind=DispatcherKind.pbs))
    writer.write("finished", trial=1, state="complete", value=0.5)
    require_reachable(writer.study, SLURM)


def test_another_cluster_of_the_same_kind_is_refused_while_jobs_are_open(writer):
    writer.start_session(1, "slurm", place="atlas")
    give(writer, "slurm", "5")  # a session that began while the controller was away
    require_reachable(writer.study, SLURM, "atlas")
    require_reachable(writer.study, SLURM, "")
    with pytest.raises(StudyError, match="given to atlas and may still run, which hydra cannot"):
        require_reachable(writer.study, SLURM, "hydra")
    writer.write("finished", trial=1, state="complete", value=0.5)
    require_reachable(writer.study, SLURM, "hydra")


@pytest.mark.parametrize("job", [None, "4711-99-0badb007"])
def test_processes_of_another_machine_are_not_started_again_here(writer, monkeypatch, job):
    give(writer, "local", job)
    require_reachable(writer.study, LOCAL)  # the same host name: it was started anew
    monkeypatch.setattr(opening.socket, "gethostname", lambda: "login2")
    with pytest.raises(StudyError, match="may still run, which login2 cannot know"):
        require_reachable(writer.study, LOCAL)
    require_reachable(writer.study, DispatcherConfig(host_gone=True))


def test_a_container_of_another_name_on_the_same_machine_goes_on(writer, monkeypatch, boot):
    give(writer, "local", f"4711-99-{boot}")
    assert LocalDispatcher.knows(f"4711-99-{boot}")
    monkeypatch.setattr(opening.socket, "gethostname", lambda: "container2")
    require_reachable(writer.study, LOCAL)


@pytest.fixture
def boot():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read()[:8]


def test_a_store_that_is_not_there_is_refused_where_the_trainings_run_here(tmp_path):
    train = TrainConfig(store=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="none is not there, and every training would fail"):
        missing_store(HpoConfig(study="s", train=train))
    assert "none cannot be seen from" in missing_store(
        HpoConfig(study="s", train=train, dispatcher=SLURM)
    )
    assert missing_store(HpoConfig(study="s", train=TrainConfig(store=str(tmp_path)))) == ""
    assert missing_store(HpoConfig(study="s", train=train, command=["mine"])) == ""
