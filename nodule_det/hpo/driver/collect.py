"""Record in the journal what has happened: requests of users, and starts and ends of jobs.

    queue folder ──take_queue()──────────▶ asked, cancel, finished
    one poll of all jobs ──ask()──▶ reports ─┐
    claim, exit_code, heartbeat ──read_job()─┴──collect()──▶ started, ended, finished
    metrics.jsonl ──observe_running()─────────▶ observed

How a job ended is read only from files that the job wrote.  The batch system only reports that it
is gone.  No answer, or one that does not mention a job, changes nothing.  The files of a job are
read once per step, after the poll, so everything that it wrote before it was gone is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nodule_det.hpo.dispatch.base import JobReport, JobState, Unavailable
from nodule_det.hpo.driver.cancel import give_up
from nodule_det.hpo.driver.conclude import conclude
from nodule_det.hpo.driver.context import PASSING, Absence, DriverContext
from nodule_det.hpo.study import inbox
from nodule_det.hpo.study.trial import Attempt, Source, Trial
from nodule_det.hpo.training.files import HEARTBEAT_S, JobFiles, close, read_job

SILENT_S = 3 * HEARTBEAT_S
"""Seconds without a new heartbeat after which a training is not running."""

Reports = Mapping[int, JobReport]
"""Report of a poll on the open attempt of each trial, by trial number."""


def take_queue(context: DriverContext) -> None:
    """Apply the requests of users (points, results, cancellations), and remove their files."""
    for entry in take_entries(context):
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in PASSING:
                raise
            context.say_once(
                f"{entry.path} was processed but cannot be removed ({error.strerror}); remove it"
            )


def take_entries(context: DriverContext) -> Iterator[inbox.Entry]:
    """Apply each file of the queue folder, and yield it once it is in the journal."""
    study = context.study
    known = study.origins
    for entry in inbox.read_queue(context.writer.folder.queue, study.space, study.objective):
        if entry.error:
            context.say_once(entry.error)
            continue
        if entry.cancel is not None:
            give_up(context, entry.cancel)
        elif entry.path.name not in known:
            _take(context, entry)
        elif entry.result is not None:
            _finish_import(context, entry.path.name, entry.result)
        yield entry


def _take(context: DriverContext, entry: inbox.Entry) -> None:
    assert entry.params is not None
    if entry.result is None:
        number = context.writer.ask(entry.params, Source.USER, entry.path.name)
        context.say(f"trial {number} added from the queue")
        return
    context.writer.ask(entry.params, Source.IMPORTED, entry.path.name)
    _finish_import(context, entry.path.name, entry.result)


def _finish_import(context: DriverContext, origin: str, result: dict[str, Any]) -> None:
    """Record the result of an imported trial, even after a kill between its two records."""
    trial = next(t for t in context.study.trials if t.origin == origin)
    if trial.pending:
        context.writer.write("finished", trial=trial.number, **result)


def ask(context: DriverContext) -> tuple[Reports, Unavailable | None]:
    """Poll all jobs at once; without an answer, return no reports and the error."""
    jobs = {a.job: t.number for t, a in context.open_attempts() if a.job is not None}
    try:
        reports = context.dispatcher.poll(list(jobs))
    except Unavailable as error:
        return {}, error
    context.notes.answered = bool(reports)
    context.notes.reports = {jobs[job]: report for job, report in reports.items()}
    return context.notes.reports, None


def collect(context: DriverContext, reports: Reports) -> None:
    """Record which jobs have started and ended."""
    _report_waiting(context, reports)
    for trial, attempt in context.open_attempts():
        with context.sparing_others(trial):
            _collect(context, trial, attempt, reports.get(trial.number))


def observe_running(context: DriverContext) -> None:
    """Record the validations of running trainings, if the model uses them."""
    if not context.config.acquisition.running_curves:
        return
    for trial, attempt in context.open_attempts():
        if attempt.started_s is not None and not trial.cancelling:
            context.observe(trial)


def _collect(
    context: DriverContext, trial: Trial, attempt: Attempt, report: JobReport | None
) -> None:
    files = read_job(context.folder(trial, attempt))
    if attempt.started_s is None:
        _note_start(context, trial, attempt, files, report)
    if files.exit is not None and not (
        files.exit.asked_to_end and _may_be_explained(context, trial, attempt)
    ):
        conclude(context, trial.number, files)
    elif report is not None and report.state is JobState.GONE:
        _take_absence(context, trial, attempt, files, report)
    elif report is not None:
        context.notes.absences.pop((trial.number, attempt.number), None)


def _note_start(
    context: DriverContext,
    trial: Trial,
    attempt: Attempt,
    files: JobFiles,
    report: JobReport | None,
) -> None:
    if files.claim is not None:
        started_s = files.claim.started_s
    elif report is not None and report.state is JobState.RUNNING:
        started_s = context.clock.now()
    else:
        return
    fields = {"attempt": attempt.number, "started_s": started_s}
    context.writer.write("started", trial=trial.number, **fields)


def _may_be_explained(context: DriverContext, trial: Trial, attempt: Attempt) -> bool:
    """Return whether the batch system may still report why: it does so once the job is gone."""
    now = context.clock.monotonic()
    since = context.notes.ended_since.setdefault((trial.number, attempt.number), now)
    return now - since < context.config.dispatcher.grace_s


def _take_absence(
    context: DriverContext, trial: Trial, attempt: Attempt, files: JobFiles, report: JobReport
) -> None:
    folder, claim, now = context.folder(trial, attempt), files.claim, context.clock.monotonic()
    same = context.dispatcher.same_job
    if claim is not None and attempt.job is not None and not same(claim.job, attempt.job):
        # Two submissions of one attempt, after a lost answer: the other one runs it.
        context.submitted(trial, attempt, claim.job)
        return
    absence = context.notes.absences.setdefault(
        (trial.number, attempt.number), Absence(now, files.beat, now)
    )
    absence.polls += 1
    absence.comments += f"{report.comment}\n"
    if files.beat and files.beat != absence.beat:
        absence.beat, absence.beat_s = files.beat, now
        context.say_once(
            f"the batch system reports job {attempt.job} of trial {trial.number} as gone, but its "
            f"training still runs on {claim.host if claim else 'its node'}: waiting for it"
        )
    silent = not files.beat or now - absence.beat_s >= SILENT_S
    waited = now - absence.since_s >= context.config.dispatcher.grace_s
    over = files.exit is not None or trial.cancelling or (absence.polls > 1 and waited and silent)
    if over and (claim is not None or close(folder)):  # else it has just started
        conclude(context, trial.number, files)


def _report_waiting(context: DriverContext, reports: Reports) -> None:
    """Report jobs that can never run or are held, in one line for each reason."""
    reasons: dict[str, list[int]] = {}
    for number, report in reports.items():
        if report.state is JobState.QUEUED and (report.never_runs or report.held):
            what = "can never run" if report.never_runs else "held until you release"
            why = f": {report.comment}" if report.comment else ""
            reasons.setdefault(f"{what}{why}", []).append(number)
    for reason, numbers in reasons.items():
        if reason not in context.notes.reported:
            context.notes.reported.add(reason)
            what, colon, comment = reason.partition(": ")
            said = _with_them(what, len(numbers))
            context.say(f"{_jobs(context, numbers)} {said}{colon}{comment}")


def _jobs(context: DriverContext, numbers: list[int]) -> str:
    attempt = context.study.trial(numbers[0]).attempt
    job = attempt.job if attempt is not None else None
    if len(numbers) == 1:
        return f"job {job} of trial {numbers[0]}"
    return f"{len(numbers)} jobs (the first is {job} of trial {numbers[0]})"


def _with_them(what: str, n: int) -> str:
    if what == "can never run":
        return what
    return f"{'is' if n == 1 else 'are'} {what} {'it' if n == 1 else 'them'}"
