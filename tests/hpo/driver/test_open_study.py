"""Checks when a study is opened: its batch system, its machine, its store and its folder."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig, StudyWas
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError, StudyError
from nodule_det.files import read_sealed, write_sealed
from nodule_det.hpo.dispatch.local import LocalDispatcher
from nodule_det.hpo.driver import open_study as opening
from nodule_det.hpo.driver.open_study import (
    missing_store,
    refuse_unvalidated,
    require_in_place,
    require_reachable,
)
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.study import Header, StudyFolder, StudyWriter
from nodule_det.hpo.study.trial import Reason
from tests.train.tiny_run import write_tiny_store

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
        with pytest.raises(StudyError, match=r"submitted by dispatcher\.kind=pbs, may still run"):
            require_reachable(writer.study, other)
    require_reachable(writer.study, DispatcherConfig(kind=DispatcherKind.pbs))
    writer.write("finished", trial=1, state="complete", value=0.5)
    require_reachable(writer.study, SLURM)


def test_another_cluster_of_the_same_kind_is_refused_while_jobs_are_open(writer):
    writer.start_session(1, "slurm", place="atlas")
    give(writer, "slurm", "5")  # a session that began while the controller was away
    require_reachable(writer.study, SLURM, "atlas")
    require_reachable(writer.study, SLURM, "")
    with pytest.raises(StudyError, match="submitted to atlas, may still run, and hydra cannot see"):
        require_reachable(writer.study, SLURM, "hydra")
    writer.write("finished", trial=1, state="complete", value=0.5)
    require_reachable(writer.study, SLURM, "hydra")


def test_servers_are_compared_by_their_whole_names(writer):
    give(writer, "pbs", "5.pbs01")
    pbs = DispatcherConfig(kind=DispatcherKind.pbs)
    writer.start_session(1, "pbs", place="pbs-of-cluster-a")
    require_reachable(writer.study, pbs, "pbs-of-cluster-a")
    with pytest.raises(StudyError, match="submitted to pbs-of-cluster-a"):
        require_reachable(writer.study, pbs, "pbs-of-cluster-b")
    writer.start_session(1, "pbs", place="pbs-of-cluster-")  # by an earlier version, cut
    require_reachable(writer.study, pbs, "pbs-of-cluster-a")


@pytest.mark.parametrize("job", [None, "4711-99-0badb007"])
def test_processes_on_another_machine_are_not_started_again_here(writer, monkeypatch, job):
    give(writer, "local", job)
    require_reachable(writer.study, LOCAL)  # the same host name: it was started anew
    monkeypatch.setattr(opening.socket, "gethostname", lambda: "login2")
    with pytest.raises(StudyError, match="may still run, and login2 cannot see that"):
        require_reachable(writer.study, LOCAL)
    require_reachable(writer.study, DispatcherConfig(host_gone=True))


def test_a_renamed_container_on_the_same_machine_continues(writer, monkeypatch, boot):
    give(writer, "local", f"4711-99-{boot}")
    assert LocalDispatcher.knows(f"4711-99-{boot}")
    monkeypatch.setattr(opening.socket, "gethostname", lambda: "container2")
    require_reachable(writer.study, LOCAL)


@pytest.fixture
def boot():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read()[:8]


def test_a_missing_store_is_refused_if_the_trainings_run_here(tmp_path):
    train = TrainConfig(store=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="none does not exist, so every training would fail"):
        missing_store(HpoConfig(study="s", train=train))
    assert "none is not visible from" in missing_store(
        HpoConfig(study="s", train=train, dispatcher=SLURM)
    )
    assert missing_store(HpoConfig(study="s", train=TrainConfig(store=str(tmp_path)))) == ""
    assert missing_store(HpoConfig(study="s", train=train, command=["mine"])) == ""


@pytest.fixture
def driven(tmp_path):
    """Return the folder of a study with an open job, and a function that opens a study."""
    opened = []

    def open_at(path):
        opened.append(StudyWriter(StudyFolder(path), lambda: 0.0))
        return opened[-1]

    path = tmp_path / "original"
    path.mkdir()
    writer = StudyWriter(StudyFolder(path), lambda: 0.0, Header(id="cafe", space=SPACE))
    give(writer, "pbs", "5.pbs01")
    writer.close()
    yield path, open_at
    for writer in opened:
        writer.close()


def one_fold_without_lesions(folder):
    """Write a store whose fold 1 has no lesions."""
    write_tiny_store(folder, scans=3, folds=3)
    file = folder / "scans" / "1.2.1.json"
    write_sealed(file, read_sealed(file, 10**6) | {"findings": []})
    return str(folder)


WORDS = "has only scans without lesions, so no validation has a pAUC to choose a checkpoint by; use"


def test_trainings_without_a_lesion_to_validate_on_are_refused(tmp_path):
    store = one_fold_without_lesions(tmp_path)
    rate = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 0.1, "high": 1}}})
    some = parse_space({"parameters": {"fold": {"kind": "categorical", "values": [0, 1]}}})
    none = parse_space(
        {"parameters": {"fold": {"kind": "fixed", "value": 1}, **rate.as_dict()["parameters"]}}
    )
    first, second = (HpoConfig(study="s", train=TrainConfig(store=store, fold=k)) for k in (0, 1))
    refuse_unvalidated(first, rate)
    refuse_unvalidated(second, some)  # only the trials of fold 1 will fail
    for config, space in ((second, rate), (first, none)):
        with pytest.raises(ConfigError, match=f"^fold=1 of store={store} {WORDS}"):
            refuse_unvalidated(config, space)
    with pytest.raises(ConfigError, match=f"^fold=1 of store={store} {WORDS}"):
        refuse_unvalidated(first, some, [{"fold": 0}, {"fold": 1}])
    with pytest.raises(ConfigError, match="fold=7 has no scans in the store"):
        refuse_unvalidated(replace(first, train=TrainConfig(store=store, fold=7)), rate)
    for changes in (
        {"command": ["mine"]},
        {"train": TrainConfig(store="not/here", fold=1)},
        {"dispatcher": DispatcherConfig(container="apptainer exec x.sif")},
    ):
        refuse_unvalidated(replace(second, **changes), rate)


def test_a_study_of_a_fold_without_lesions_is_refused_before_anything_is_written(tmp_path):
    """And without waiting for torch."""
    (tmp_path / "store").mkdir()
    store = one_fold_without_lesions(tmp_path / "store")
    words = [f"study={tmp_path / 's'}", f"train.store={store}", "train.fold=1", "trials=1"]
    code = (
        "import sys; from nodule_det.hpo.__main__ import main\n"
        "try: main()\nfinally: assert not {'torch', 'monai', 'matplotlib'} & set(sys.modules)"
    )
    for more in ([], ["dry_run=true"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words, *more],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: fold=1 of store={store} {WORDS} another fold")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_a_study_in_its_own_folder_is_in_place_by_any_of_its_paths(driven, tmp_path):
    path, open_at = driven
    (tmp_path / "link").symlink_to(path)
    for same in (path, tmp_path / "link"):
        require_in_place(open_at(same), StudyWas.in_place)


@pytest.mark.parametrize("was", [StudyWas.in_place, StudyWas.moved])
def test_a_copy_does_not_take_the_jobs_of_its_original(driven, tmp_path, was):
    path, open_at = driven
    shutil.copytree(path, tmp_path / "copy")
    with pytest.raises(StudyError, match=f"is a copy of {path}, which still exists"):
        require_in_place(open_at(tmp_path / "copy"), was)


def test_a_declared_copy_gets_its_own_jobs(driven, tmp_path):
    path, open_at = driven
    shutil.copytree(path, tmp_path / "copy")
    writer = open_at(tmp_path / "copy")
    require_in_place(writer, StudyWas.copied)
    assert writer.study.trial(1).attempt is None
    assert writer.study.trial(1).attempts[0].reason is Reason.LOST
    name = writer.study.header.job_name(1, 2)
    assert name.endswith("-1-2")
    assert not name.startswith("nd-cafe")
    writer.start_session(1, "pbs")
    again = open_at(tmp_path / "copy")
    require_in_place(again, StudyWas.in_place)
    assert again.study.header.job_name(1, 2) == name
    assert again.study.problems == []


def test_a_moved_study_with_open_jobs_is_refused_and_one_without_is_accepted(driven, tmp_path):
    path, open_at = driven
    path.rename(tmp_path / "moved")
    writer = open_at(tmp_path / "moved")
    with pytest.raises(StudyError, match=r"has 1 open job, working there\.  If the folder was m"):
        require_in_place(writer, StudyWas.in_place)
    require_in_place(writer, StudyWas.moved)
    assert writer.study.trial(1).attempt.job == "5.pbs01"
    writer.write("finished", trial=1, state="complete", value=0.5)
    require_in_place(writer, StudyWas.in_place)


def test_a_study_of_an_earlier_version_has_no_folder_to_compare(driven, tmp_path):
    path, open_at = driven
    journal = StudyFolder(path).journal
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        record.pop("folder", None)
    journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    path.rename(tmp_path / "moved")
    require_in_place(open_at(tmp_path / "moved"), StudyWas.in_place)
