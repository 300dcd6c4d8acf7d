import os
import shutil
import socket
import subprocess
import sys

from nodule_det.hpo.study.study import read_study
from nodule_det.hpo.study.trial import Reason
from tests.hpo.command_line import hpo, until


def test_a_trial_is_cancelled_with_and_without_a_driver(quick_training, tmp_path, monkeypatch):
    monkeypatch.setenv("QUICK_S", "60")
    path = tmp_path / "s"
    settings = ["dispatcher.poll_s=0.1", "dispatcher.grace_s=0.5", "acquisition.strategy=random"]
    words = [f"study={path}", f"command=[{','.join(quick_training)}]", "workers=2", "trials=2"]
    drive = [sys.executable, "-m", "nodule_det.hpo", *words, *settings]
    first = subprocess.Popen(drive, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(list(path.glob("trials/*/starts"))) == 2)
        live = hpo("nodule_det.hpo.cancel", f"study={path}", "trial=1")
        assert live.stdout.startswith("trial 1 will be cancelled by the driver (")
        shutil.copytree(path, tmp_path / "copy")
        copy = hpo("nodule_det.hpo.cancel", f"study={tmp_path / 'copy'}", "trial=2", code=1)
        assert f"is a copy of {path}, to which the jobs belong: cancel the trial" in copy.stderr
        until(lambda: read_study(path).trial(1).reason is Reason.USER)
    finally:
        first.kill()
        first.wait()
    again = hpo("nodule_det.hpo.cancel", f"study={path}", "trial=1", code=1)
    assert "is already cancelled; only a pending trial" in again.stderr
    assert "which is gone" in hpo("nodule_det.hpo.status", f"study={path}").stdout
    alone = hpo("nodule_det.hpo.cancel", f"study={path}", "trial=2")
    pid = int(read_study(path).trial(2).attempt.job.split("-")[0])
    assert alone.stdout.endswith(
        f"is started; to end its job before that: on {socket.gethostname()}: kill -- -{pid}\n"
    )
    lock = path / "driver.lock"
    lock.write_text(lock.read_text().replace(socket.gethostname(), "login2"))
    os.utime(lock, (lock.stat().st_mtime - 1000,) * 2)
    assert "silent for 16:4" in hpo("nodule_det.hpo.status", f"study={path}").stdout
    assert "once a driver of" in hpo("nodule_det.hpo.cancel", f"study={path}", "trial=2").stdout
    run = hpo("nodule_det.hpo", *words, *settings, "stop=jobs")
    assert "2 cancelled" in run.stdout or "3 cancelled" in run.stdout
    assert read_study(path).trial(2).reason is Reason.USER
