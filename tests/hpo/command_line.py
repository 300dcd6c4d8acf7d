"""Run the commands as users do, and the small study that their tests share."""

import csv
import subprocess
import sys
import time


def hpo(module, *words, code=0):
    command = [sys.executable, "-m", module, *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == code, run.stdout + run.stderr
    return run


def tune(study, training, *words, code=0):
    command = f"command=[{','.join(training)}]"
    fast = ["dispatcher.poll_s=0.05", "dispatcher.grace_s=0.5", "acquisition.strategy=random"]
    return hpo("nodule_det.hpo", f"study={study}", command, *fast, *words, code=code)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nothing happened in a minute"
        time.sleep(0.1)


def read_csv(study):
    hpo("nodule_det.hpo.export", f"study={study}")
    with open(study / "trials.csv", newline="") as f:
        return list(csv.DictReader(f))
