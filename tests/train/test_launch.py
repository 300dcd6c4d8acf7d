"""One training by two processes, as a job of the tuning driver."""

import json
import subprocess
import sys
import time

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.errors import ExitCode
from nodule_det.files import read_jsonl
from nodule_det.hpo.dispatch import job_script
from nodule_det.hpo.dispatch.base import Job, JobState
from nodule_det.hpo.dispatch.local import LocalDispatcher
from nodule_det.hpo.study.objective import PAUC
from nodule_det.hpo.study.trial import Reason
from nodule_det.hpo.training.command import command_words, write_job
from nodule_det.hpo.training.files import read_job
from nodule_det.hpo.training.outcome import read_outcome
from nodule_det.runs import RunFolder, RunResult
from nodule_det.train import launch
from tests.train.tiny_run import WORDS


def ending(*codes):
    script = "import os, sys; n = int(sys.argv[1]); os.kill(os.getpid(), -n) if n < 0 else exit(n)"
    return [subprocess.Popen([sys.executable, "-c", script, str(code)]) for code in codes]


def test_the_exit_code_is_that_of_the_first_process_as_shells_say_it():
    assert launch.wait(ending(0, 0)) == 0
    assert launch.wait(ending(85, 85)) == 85
    assert launch.wait(ending(88, 1)) == 88
    assert launch.wait(ending(-9, 1)) == 128 + 9
    assert launch.wait(ending(0, 3)) == 3


def test_a_process_that_stays_behind_is_killed(monkeypatch):
    monkeypatch.setattr(launch, "LAST_WORDS_S", 0.5)
    stays = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    assert launch.wait([*ending(86), stays]) == 86
    assert stays.returncode == -9


def test_processes_get_their_ranks_share_the_threads_and_keep_the_gpus(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-2")
    first, second = launch.process_environments(2, 4321)
    assert (first["RANK"], second["RANK"], second["LOCAL_RANK"]) == ("0", "1", "1")
    for environment in (first, second):
        assert environment["WORLD_SIZE"] == environment["LOCAL_WORLD_SIZE"] == "2"
        assert environment["MASTER_PORT"] == "4321"
        assert environment["OMP_NUM_THREADS"] == "4"
        assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"


def test_jobs_of_two_processes_stop_on_a_signal_and_by_the_clock_and_another_one_completes_them(
    store, tmp_path
):
    config = DispatcherConfig(processes_per_job=2)
    folder = RunFolder(tmp_path / "run")
    dispatcher = LocalDispatcher(config, job_script())

    def outcome(number, *more_words, interrupt=False):
        settings = [f"store={store}", *WORDS, "limits.epochs=4", *more_words]
        words = command_words((), settings, {}, folder.path, config)
        job = Job(f"nd-{number}", folder.path / f"attempt_{number}")
        write_job(job, words, config, tmp_path)
        job_id, end_s = dispatcher.submit(job), time.monotonic() + 120
        while dispatcher.poll([job_id])[job_id].state is not JobState.GONE:
            if interrupt and folder.metrics.exists() and "validation" in folder.metrics.read_text():
                dispatcher.cancel([job_id])
            assert time.monotonic() < end_s, job.log.read_text()
            time.sleep(0.02)
        files = read_job(job.folder)
        found = read_outcome(folder.path, job.folder, files, dispatcher.explain, PAUC)
        return files.exit.code, found.reason, job.log.read_text()

    code, reason, log = outcome(1, interrupt=True)
    assert (code, reason) == (ExitCode.STOPPED, Reason.STOPPED), log
    stopped = RunResult.from_json(folder.result.read_text())
    code, reason, log = outcome(2, "limits.wall_s=0.001")
    assert (code, reason) == (ExitCode.STOPPED, Reason.STOPPED), log
    result = RunResult.from_json(folder.result.read_text())
    assert result.reason == "wall_clock"
    assert result.step - stopped.step in (
        0,
        1,
    )  # 0 if it was stopped in a validation, which resumes
    code, reason, log = outcome(3)
    assert (code, reason) == (ExitCode.COMPLETE, None), log
    assert json.loads(folder.environment.read_text())["processes"] == 2
    rows = read_jsonl(folder.metrics)
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1, 2, 3, 4]
