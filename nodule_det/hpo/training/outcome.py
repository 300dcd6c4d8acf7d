"""The outcome of a training, from the files of the run and of its job.

exit_code, result.json, job.log ──read_outcome()──▶ Outcome(reason, value, message)
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nodule_det.errors import ExitCode
from nodule_det.hpo.dispatch.base import Explanation
from nodule_det.hpo.study.objective import PAUC, Objective
from nodule_det.hpo.study.trial import Reason
from nodule_det.hpo.training.files import Claim, Exit, JobFiles
from nodule_det.hpo.training.job_log import last_error, read_tail
from nodule_det.hpo.training.result import Result, read_result
from nodule_det.runs import RunFolder, RunStatus


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of a job that has ended."""

    reason: Reason | None
    """None if the training is complete; STOPPED if it can be resumed."""
    violation: str = ""
    """Which constraint a complete training violates; "" if none."""
    value: float | None = None
    value_se: float | None = None
    influence: dict[str, float] | None = None
    message: str | None = None
    peak_memory_bytes: int | None = None
    started_s: float | None = None
    ended_s: float | None = None
    progress: str | None = None
    """How far a stopped training got, as it reports it; None if not reported."""


Explain = Callable[[str, str], Explanation | None]
""":meth:`Dispatcher.explain`: (end of the log, comment of polls) -> why the job was ended."""


def read_outcome(
    run_dir: Path,
    attempt_dir: Path,
    files: JobFiles,
    explain: Explain,
    objective: Objective,
    comment: str = "",
) -> Outcome:
    """Read the outcome of a job that has ended, from its files.

    The exit code shows how this job ended.  Without one (the whole job was killed) the status in
    the training's result counts.  A complete result always counts.  If a job or a training was
    killed, or saved a checkpoint after a signal, the batch system may report that it exceeded its
    memory limit.

    Args:
        run_dir: Folder of the training.
        attempt_dir: Folder of the job.
        files: State of the job's folder after it had ended.
        explain: Finds the batch system's reason in log and comment.
        objective: The value to read from the result.
        comment: Comment of the batch system on the job after it had ended.
    """
    claim, exit_ = files.claim, files.exit
    started_s = claim.started_s if claim else None
    result, damage = read_result(run_dir, objective)
    if claim is None and result is not None and result.status is not RunStatus.COMPLETE:
        result = None  # from an earlier job: this one never started
    reason, message = _reason(result, exit_)
    log = "" if reason is None else read_tail(attempt_dir)
    message = message or last_error(log)
    if reason in (Reason.LOST, Reason.KILLED, Reason.STOPPED) and (why := explain(log, comment)):
        if why.out_of_memory:
            reason, message = Reason.OUT_OF_MEMORY, f"killed by the batch system: {why.text}"
        elif reason is not Reason.STOPPED:
            message = f"{message or 'ended by the batch system'}: {why.text}"
    message = message or _default_message(reason, claim, exit_, attempt_dir)
    if damage and reason in (Reason.ERROR, Reason.LOST):
        message = f"{message}; {damage}"
    value = value_se = influence = None
    if reason is None and result is not None:
        value, value_se, influence = result.value, result.value_se, result.influence
        if result.diverged:
            reason, value_se, influence = Reason.DIVERGED, None, None
            message = f"result.json has {objective.name}={result.found}, which counts as diverged"
        elif value is None:
            low, high = objective.bounds
            needs = f"a number from {low:g} to {high:g}" if objective.name == "pauc" else "a number"
            reason, value_se, influence = Reason.ERROR, None, None
            message = f"result.json has {objective.name}={result.found} but expected {needs}"
        elif result.lacks:
            reason, value, value_se, influence = Reason.ERROR, None, None, None
            message = (
                f"{RunFolder(run_dir).result} has {result.lacks} but constraints need a number; "
                "let the program report it, or start a study without this constraint"
            )
    return Outcome(
        reason=reason,
        value=value,
        value_se=value_se,
        violation=result.violation if reason is None and result is not None else "",
        influence=influence,
        message=message,
        peak_memory_bytes=result.peak_memory_bytes if result is not None else None,
        started_s=started_s,
        ended_s=exit_.ended_s if exit_ else None,
        progress=result.progress if result is not None else None,
    )


def _reason(result: Result | None, exit_: Exit | None) -> tuple[Reason | None, str | None]:
    if result is not None and result.status is RunStatus.COMPLETE:
        return None, None
    message = result.message if result is not None else None
    if exit_ is None:
        if result is not None and result.status is RunStatus.STOPPED:
            return Reason.STOPPED, message
        if result is not None and result.status is RunStatus.FAILED:
            return Reason.of(ExitCode.of(result.reason)) or Reason.ERROR, message
        return Reason.LOST, None
    if reason := Reason.of(exit_.code):
        return reason, message
    if 128 < exit_.code < 128 + signal.NSIG:  # how a shell reports: killed by signal code - 128
        return Reason.KILLED, f"killed by signal {exit_.code - 128}"
    if result is not None and result.status is RunStatus.FAILED:
        # another program, which reports why it failed but may not use our exit codes
        reason = Reason.of(ExitCode.of(result.reason)) or Reason.ERROR
        return reason, message
    if exit_.code == ExitCode.COMPLETE:
        return Reason.ERROR, "the training exited with code 0 but without a complete result"
    return Reason.ERROR, message


def _default_message(
    reason: Reason | None, claim: Claim | None, exit_: Exit | None, attempt_dir: Path
) -> str | None:
    if reason is Reason.LOST and claim is None:
        return (
            f"the job never found its folder: check that {attempt_dir} is visible on the compute "
            "nodes and that jobs may write there"
        )
    if reason is Reason.LOST and exit_ is None:
        return "the job vanished without a result"
    if reason is Reason.BUSY:
        return "its run folder is in use by another process"
    if reason in (Reason.ERROR, Reason.BAD_INPUT) and exit_ is not None:
        return f"exit code {exit_.code}; see {attempt_dir / 'job.log'}"
    return None


def put_away_failure(run_dir: Path, attempt_dir: Path) -> None:
    """Move the result of a failed attempt into its folder, so that the next attempt can start."""
    result, damage = read_result(run_dir, PAUC)
    if damage or (result is not None and result.status is RunStatus.FAILED):
        RunFolder(run_dir).result.rename(attempt_dir / "result.json")
