"""The state of a study as numbers and text, for the live table, a log line, and ``status``.

Study ──summarise()──▶ Summary ──one_line()──▶ text
Trial ──trial_row()──▶ one row of a table
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nodule_det.hpo.model.expected import Expected
from nodule_det.hpo.study.objective import Objective
from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import Reason, Source, Trial, TrialState
from nodule_det.progress import duration
from nodule_det.untrusted import printable


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts and times of a study at one moment."""

    objective: Objective
    trials: int
    complete: int
    infeasible: int
    """Complete trials that violate a constraint."""
    failed: int
    cancelled: int
    counted: int
    """Finished trials that count towards the requested number."""
    running: int
    queued: int
    waiting: int
    """Trials without a job: not submitted yet, or between two attempts."""
    imported: int
    node_h: float
    mean_trial_s: float | None
    """Mean run time of a complete trial."""
    best: Trial | None
    failures: dict[str, int]

    def eta_s(self, trials: int, workers: int) -> float | None:
        """Estimate the seconds until ``trials`` are done, from the mean of the complete ones."""
        if self.mean_trial_s is None:
            return None
        return max(0, trials - self.counted) * self.mean_trial_s / workers


def summarise(study: Study, now_s: float) -> Summary:
    """Count the trials of a study by state, and add up their times."""
    own = study.own
    states = Counter(t.state for t in own)
    open_attempts = [t.attempt for t in own if t.attempt is not None]
    running = sum(a.started_s is not None for a in open_attempts)
    complete_s = [t.seconds for t in own if t.state is TrialState.COMPLETE]
    return Summary(
        objective=study.objective,
        trials=len(own),
        complete=states[TrialState.COMPLETE],
        infeasible=sum(t.reason is Reason.INFEASIBLE for t in own),
        failed=states[TrialState.FAILED],
        cancelled=states[TrialState.CANCELLED],
        counted=study.n_counted - states[TrialState.PENDING],
        running=running,
        queued=len(open_attempts) - running,
        waiting=states[TrialState.PENDING] - len(open_attempts),
        imported=sum(t.source == Source.IMPORTED for t in study.trials),
        node_h=study.node_seconds(now_s) / 3600,
        mean_trial_s=sum(complete_s) / len(complete_s) if complete_s else None,
        best=study.best(),
        failures=dict(Counter(str(t.reason) for t in own if t.state is TrialState.FAILED)),
    )


def value_text(trial: Trial, objective: Objective) -> str:
    """Format the value of a trial with its 95% CI; ``-`` if it has none."""
    return "-" if trial.value is None else objective.text(trial.value, trial.value_se)


def param_cells(trial: Trial, names: Sequence[str]) -> tuple[str, ...]:
    """Format the parameters of a trial, one cell each.  The cell of an absent one is empty."""
    values = (trial.params.get(name, "") for name in names)
    return tuple(f"{v:.3g}" if isinstance(v, float) else printable(str(v)) for v in values)


def one_line(summary: Summary, trials: int | None = None, workers: int | None = None) -> str:
    """Format the state of a study as one line, for a log.

    Args:
        summary: The counts.
        trials: Number of trials requested, if known.
        workers: Number of concurrent jobs.  With both, the line ends with the remaining time.
    """
    goal = f"/{trials}" if trials else ""
    infeasible = f" ({summary.infeasible} infeasible)" if summary.infeasible else ""
    text = (
        f"{summary.complete}{goal} complete{infeasible}, {summary.failed} failed, "
        f"{summary.cancelled} "
        f"cancelled, {summary.running} running, {summary.queued} queued"
    )
    if summary.waiting:
        text += f", {summary.waiting} waiting for a worker"
    if summary.best is not None:
        value = value_text(summary.best, summary.objective)
        text += f"; best {summary.objective.title} {value} in trial {summary.best.number}"
    if trials and workers and (eta := summary.eta_s(trials, workers)) is not None:
        text += f"; about {duration(eta)} remaining"
    return text


def expected_text(expected: Expected, study: Study) -> str:
    """Format the trial with the highest expected value, with the 95% CI of that value."""
    text = study.objective.text(expected.mean, expected.sd)
    return f"highest expected {study.objective.title} {text} in trial {expected.trial}"


def columns(objective: Objective) -> tuple[str, ...]:
    """Return the headings of :func:`trial_row`."""
    return ("trial", "state", objective.title, "run time", "attempts", "source")


def trial_row(trial: Trial, now_s: float, objective: Objective) -> tuple[str, ...]:
    """Format one trial as the cells under :func:`columns`."""
    state = str(trial.state)
    seconds = trial.seconds
    if trial.attempt is not None:
        state = "queued" if trial.attempt.started_s is None else "running"
        seconds += max(0.0, now_s - (trial.attempt.started_s or now_s))
    if trial.cancelling and trial.pending:
        state = "cancelling"
    if trial.reason is not None:
        state += f" ({trial.reason})"
    value = value_text(trial, objective)
    if trial.value is None and trial.curve:
        last = trial.curve[-1]
        value = f"({objective.text(last.value)} at epoch {last.epoch})"
    return (
        str(trial.number),
        state,
        value,
        duration(seconds),
        str(len(trial.attempts)),
        trial.source,
    )
