"""Kill the tuning driver hundreds of times, and check that every job ran exactly once.

    python bench/soak.py FOLDER [--kills 200]                                      local processes
    bash tests/slurm/start_slurm.sh SLURM 47017; export SLURM_CONF=SLURM/slurm.conf
    python bench/soak.py FOLDER --dispatcher slurm|pbs_over_slurm --slurm-dir SLURM       real Slurm
    python bench/soak.py FOLDER --dispatcher pbs          your PBS, whose server is not changed

A real driver (`python -m nodule_det.hpo`) runs a study of short stand-in trainings.  It is killed
by SIGKILL at a random moment and restarted, again and again, and then left to finish.  A fifth of
the answers of sbatch or qsub is lost, half of them after the job was submitted.  With --slurm-dir
the Slurm controller is also stopped and started, every 20 kills.  Each training records its start
in a file, so the count does not rely on the driver.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from nodule_det.hpo.study.study import StudyFolder, read_study
from nodule_det.locking import read_holder

ROOT = Path(__file__).parents[1]
TRAINING = ROOT / "tests" / "bin" / "quick_training.sh"
FORGETFUL = ROOT / "tests" / "bin" / "forgetful.sh"
PORT = "47017"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--dispatcher", default="local")
    parser.add_argument("--slurm-dir", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    began = time.monotonic()
    trials = max(20, args.kills)
    for kill in range(1, args.kills + 1):
        if args.slurm_dir and kill % 20 == 0:
            restart_controller(args.slurm_dir)
        with start(args, trials) as driver:
            wait_for_lock(args.folder, driver)
            time.sleep(rng.uniform(0.0, 0.7))
            driver.kill()
        done = sum(not t.pending for t in read_study(args.folder).trials)
        print(f"\rkill {kill}, {done} of {trials} trials done ", end="", flush=True)
        trials = max(trials, done + 20)  # a kill of an idle driver would prove nothing
    with start(args, trials) as driver:
        code = driver.wait()
    return report(args, trials, code, time.monotonic() - began)


def start(args: argparse.Namespace, trials: int) -> subprocess.Popen[bytes]:
    settings = [
        *(f"study={args.folder}", "workers=4", f"trials={trials}", "acquisition.strategy=random"),
        *(f"dispatcher={args.dispatcher}", "dispatcher.poll_s=0.05", "dispatcher.grace_s=2"),
        *(f"command=[bash,{TRAINING}]", "dispatcher.walltime_s=600"),
    ]
    if args.dispatcher == "pbs":
        settings.append('dispatcher.select="1:ncpus=1"')
    return subprocess.Popen(
        [sys.executable, "-m", "nodule_det.hpo", *settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "QUICK_S": "0.3", "PATH": f"{losses(args)}:{os.environ['PATH']}"},
    )


def losses(args: argparse.Namespace) -> Path:
    """Return the folder of commands that lose answers; for local jobs there are none in it."""
    folder = Path(f"{args.folder}.losses").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name in () if args.dispatcher == "local" else ("sbatch", "qsub"):
        if not (folder / name).exists():
            (folder / name).symlink_to(FORGETFUL)
    return folder


def wait_for_lock(folder: Path, driver: subprocess.Popen[bytes]) -> None:
    """Wait until the driver is at work: killing its imports proves nothing."""
    lock = StudyFolder(folder).lock
    while driver.poll() is None:
        holder = read_holder(lock)
        if holder is not None and holder.pid == driver.pid:
            return
        time.sleep(0.005)


def restart_controller(folder: Path) -> None:
    """Stop and start the controller; the node's own daemon keeps running, as on a real cluster."""
    for script, words in (("stop_slurm.sh", ("slurmctld",)), ("start_slurm.sh", (PORT,))):
        path = ROOT / "tests" / "slurm" / script
        subprocess.run(["bash", str(path), str(folder), *words], check=True)


def report(args: argparse.Namespace, trials: int, code: int, seconds: float) -> int:
    """Count what the trainings noted, and say whether it is what must be."""
    study, folder = read_study(args.folder), StudyFolder(args.folder)
    starts = collections.Counter(
        (folder.trial(t.number) / "starts").read_text().count("start") for t in study.trials
    )
    states = collections.Counter(str(t.state) for t in study.trials)
    attempts = sum(len(t.attempts) for t in study.trials)
    right = all(t.value == t.params["optim.beta1"] for t in study.trials)
    good = code == 0 and dict(starts) == {1: trials} and right and states["complete"] == trials
    print(
        f"\n{args.dispatcher}: {args.kills} kills in {seconds:.0f} s, answers lost: "
        f"{lost_answers(args)}; {len(study.trials)} trials "
        f"{dict(states)}, {attempts} attempts, starts of a training -> trials {dict(starts)}; "
        f"values right: {right}; problems: {len(study.problems)}; {'PASSED' if good else 'FAILED'}"
    )
    return 0 if good else 1


def lost_answers(args: argparse.Namespace) -> dict[str, int]:
    """Count them: ``lost`` after the job was submitted, ``away`` before."""
    noted = losses(args) / "lost_answers"
    return dict(collections.Counter(noted.read_text().split() if noted.exists() else []))


if __name__ == "__main__":
    sys.exit(main())
