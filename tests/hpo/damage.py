"""Damage a study folder at random, and check that only the damaged part is lost.

``python -m tests.hpo.damage SEED N`` tries N mutations and prints what went wrong; with ``report``
behind it each study is drawn as well.
"""

import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from rich.console import Console

from nodule_det.config.hpo_tools import StudyReportConfig
from nodule_det.errors import NoduleDetError, StudyError
from nodule_det.hpo.add import add_results
from nodule_det.hpo.cancel import by_hand
from nodule_det.hpo.driver.open_study import require_same
from nodule_det.hpo.driver.recovery import recover
from nodule_det.hpo.export import write_csv
from nodule_det.hpo.report.page import write_report
from nodule_det.hpo.simulate.dispatcher import FakeDispatcher, FakeRun
from nodule_det.hpo.study.inbox import enqueue, enqueue_cancel, enqueue_result, result_origin
from nodule_det.hpo.study.study import Header, Study, read_study
from nodule_det.hpo.study.trial import Observation
from nodule_det.hpo.view.live import table
from nodule_det.hpo.view.summary import one_line, summarise
from nodule_det.locking import why_gone
from nodule_det.runs import RunResult, RunStatus
from tests.hpo.virtual_lab import HOUR, Lab

TRIALS = 7
TOO_LONG_S, TOO_LONG_TO_DRAW_S = 60, 300
ODD_VALUES = [
    *(None, True, "", "x", [], {}, [1], {"a": 1}, -1, 0, 2, 1.5, 1e300, 10**400, 7_000_000),
    *("\x1b[31mred", "\ud800", "x" * 100_000, "-rf", "../../etc", "a b", "NaN", "=1+1"),
]
ODD_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "{}", "[" * 50_000, "0.7,"]
ODD_BYTES = [
    b"",
    b"\0" * 100,
    b"\xff\xfe\xfa",
    b"[]",
    b"{}",
    b"null",
    b"1",
    b"\n\n",
    b"\x8f" * 999,
]
ODD_BYTES += [b"{" * 100_000, b"closed", b"7.fake node1 nan", b"7.fake node1 1e400", b"nan nan"]
ODD_BYTES += [b"-1 1", b"999 1", "\u00b2 1".encode(), b"0 inf", b"-Wforce n 1.5", b"0 1e99"]


def training(overrides, attempt):
    """Half an hour to two hours, with a curve; some fail, some are lost and tried again."""
    value = 100 * overrides["optim.lr"]
    curve = tuple(Observation(epoch, value * epoch / 8, 0.02) for epoch in (2, 4, 8))
    if value > 0.8:
        result = RunResult(status=RunStatus.FAILED, reason="diverged", message="NaN loss")
        return FakeRun(seconds=HOUR, result=result, code=86, curve=curve[:1])
    result = RunResult(status=RunStatus.COMPLETE, pauc=value, pauc_se=0.02, step=8)
    code = 137 if 0.3 < value < 0.5 and attempt == 1 else 0
    return FakeRun(seconds=HOUR * (0.5 + value), result=result, code=code, curve=curve)


class FragileDispatcher(FakeDispatcher):
    """Its jobs die where a real one would: if they cannot write or read their files."""

    def _happen(self, job, at_s):
        files = [job.job.folder / name for name in ("claim", "exit_code")]
        files += [job.job.folder.parent / name for name in ("metrics.jsonl", "result.json")]
        try:
            if any(os.path.lexists(p) and not p.is_file() for p in files):
                raise OSError("not a file")
            super()._happen(job, at_s)
        except (OSError, ValueError, IndexError):
            if not job.gone:
                self._leave(job, at_s)


def make_lab(folder):
    lab = Lab(folder, training, workers=3, trials=TRIALS)
    lab.batch = FragileDispatcher(lab.clock, training)
    return lab


def make_study(folder, rng):
    """Run part of a study, and leave entries in its queue."""
    lab = make_lab(folder)
    driver = lab.start()
    for _ in range(rng.randrange(1, 60)):
        wait_s = driver.try_step()
        if driver.done():
            break
        lab.clock.sleep(wait_s)
    queue = lab.folder.queue
    enqueue(queue, {"optim.lr": 0.002})
    enqueue_cancel(queue, 1)
    done = {"state": "complete", "value": 0.5, "value_se": 0.1, "imported_seconds": 5.0}
    enqueue_result(queue, {"optim.lr": 0.003}, done, result_origin("beef", 3))
    (lab.folder.lock).write_text('{"host": "a", "pid": 7, "started": "x", "token": "t"}')
    return lab


def damage(folder, rng):
    """Change one thing somewhere in a study; returns what was done."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    folders = [p for p in folder.rglob("*") if p.is_dir()]
    journal = folder / "journal.jsonl"
    path = journal if rng.random() < 0.4 and journal in files else rng.choice(files)
    if path.name == "journal.jsonl" and rng.random() < 0.9:
        return f"{path.name}: {_damage_line(path, rng)}"
    if rng.random() < 0.08 and folders:
        path = rng.choice(folders)
        shutil.rmtree(path)
        path.write_bytes(rng.choice(ODD_BYTES))
        return f"{path.relative_to(folder)}: a file in place of a folder"
    ways = [_flip, _cut, _replace, _as_folder, _as_fifo, _as_loop, _remove, _damage_line, _plant]
    return f"{path.relative_to(folder)}: {rng.choice(ways)(path, rng)}"


def _flip(path, rng):
    content = bytearray(path.read_bytes() or b"x")
    for _ in range(rng.randrange(1, 6)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)
    return "bytes changed"


def _cut(path, rng):
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])
    return "cut"


def _replace(path, rng):
    content = rng.choice(ODD_BYTES)
    path.write_bytes(content)
    return f"now {content[:20]!r}"


def _as_folder(path, rng):
    path.unlink()
    path.mkdir()
    return "a folder"


def _as_fifo(path, rng):
    path.unlink()
    os.mkfifo(path)
    return "a FIFO"


def _as_loop(path, rng):
    path.unlink()
    path.symlink_to(path)
    return "a link to itself"


def _remove(path, rng):
    path.unlink()
    return "removed"


def _plant(path, rng):
    """Leave something new beside a file."""
    name = rng.choice(["0999", "99999999", "\u00b2", "attempt_9", "attempt_99999999", "1.json"])
    planted = path.parent / name
    if not planted.exists():
        planted.mkdir() if rng.random() < 0.5 else planted.write_bytes(rng.choice(ODD_BYTES))
    return f"{name} planted beside it"


def _damage_line(path, rng):
    lines = path.read_bytes().decode(errors="replace").split("\n")
    at = 0 if rng.random() < 0.05 else rng.randrange(len(lines))
    try:
        record = json.loads(lines[at])
        key = rng.choice(sorted(record))
    except (ValueError, IndexError, TypeError, RecursionError):
        return _flip(path, rng)
    way = rng.randrange(6)
    if way == 0:
        record[key] = odd = rng.choice(ODD_VALUES)
        lines[at], what = json.dumps(record), f"{key}={str(odd)[:20]!r}"
    elif way == 1:
        odd = rng.choice(ODD_NUMBERS)
        lines[at] = json.dumps(record | {key: "HERE"}).replace('"HERE"', odd)
        what = f"{key}={odd[:20]}"
    elif way == 2:
        del record[key]
        lines[at], what = json.dumps(record), f"no {key}"
    elif way == 3:
        lines.insert(rng.randrange(len(lines)), lines[at])
        what = "repeated elsewhere"
    elif way == 4:
        del lines[at]
        what = "gone"
    else:
        other = {"kind": "asked", "trial": rng.randrange(12), "t": 5.0, "attempt": 1}
        key = rng.choice(sorted(other))
        record |= {key: other[key]}
        lines[at], what = json.dumps(record), "a field of another record"
    path.write_bytes("\n".join(lines).encode(errors="surrogatepass"))
    return f"line {at + 1} of {len(lines)}: {what}"


def look(lab):
    """Read a study as status, show, export, add, cancel and report do."""
    study = read_study(lab.folder.path)
    summary = summarise(study, lab.clock.now())
    stream = io.StringIO()
    Console(file=stream, width=200).print(table(study, study.trials, lab.clock.now()))
    text = stream.getvalue() + one_line(summary) + "".join(study.problems)
    assert all(c.isprintable() or c == "\n" for c in text), "control characters"
    write_csv(study, lab.folder.path / "trials.csv")
    for trial in study.trials:
        by_hand(study, trial)
        assert study.space.check(trial.params) == trial.params
        assert trial.value is None or 0 <= trial.value <= 1
    other = Study(Header(id="dead", space=study.space))
    add_results(lab.folder.path / "other_queue", other, study)
    why_gone(lab.folder.lock)


def resume(lab):
    """Start the driver again and run it to the end."""
    driver = lab.start()
    require_same(lab.folder.path, lab.study.header, Header(id="cafe", space=lab.space))
    recover(lab.writer)
    for _ in range(2000):
        wait_s = driver.try_step()
        if driver.done():
            return
        lab.clock.sleep(wait_s)
    raise TimeoutError("the study does not end: " + "; ".join(lab.said[-3:]))


def one(seed, report=None):
    """Try one mutation; returns what was done, and the traceback of what must not happen."""
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="damage"))
    signal.signal(signal.SIGALRM, _give_up)
    lab, what = None, "making the study"
    too_long_s = TOO_LONG_S if report is None else TOO_LONG_TO_DRAW_S
    try:
        lab = make_study(folder / "s", rng)
        lab.writer.close()
        lab.writer = None
        what = "; ".join(damage(folder / "s", rng) for _ in range(rng.choice([1, 1, 1, 3])))
        signal.alarm(too_long_s)
        whole = True
        try:
            look(lab)
            if report is not None:
                report(folder / "s")
        except StudyError:
            whole = False  # its first line is damaged
        try:
            resume(lab)
            look(lab)
        except StudyError as error:
            refused = ("failed with an error or vanished", "was created with another")
            if whole and not any(text in str(error) for text in refused):
                raise AssertionError(f"the driver ended: {error}") from error
    except NoduleDetError as error:
        return what, f"{type(error).__name__}: {error}"
    except BaseException:
        return what, traceback.format_exc()
    finally:
        signal.alarm(0)
        if lab is not None and lab.writer is not None:
            lab.writer.close()
        shutil.rmtree(folder, ignore_errors=True)
    return what, None


def _give_up(number, frame):
    raise TimeoutError("took too long")


def report(folder):
    """Write the report of a study."""
    write_report(StudyReportConfig(study=str(folder), out=str(folder / "report")))


def main(seed, n, with_report):
    bad = 0
    for k in range(seed, seed + n):
        what, trace = one(k, report if with_report else None)
        if trace:
            bad += 1
            print(f"seed {k}: {what}\n{trace}\n", flush=True)
    print(f"{n} mutations, {bad} failures")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), "report" in sys.argv)
