"""Where a study stands, in numbers and in words: for the live table, a log line, and ``status``.

Study ──summarise()──▶ Summary ──lines()──▶ text
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import Source, Trial, TrialState
from nodule_det.progress import duration

INTERVAL = 1.96
"""Standard errors to either side of a 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts and times of a study at one moment."""

    trials: int
    complete: int
    failed: int
    cancelled: int
    counted: int
    """Trials that are over and count for the number that was asked for."""
    running: int
    queued: int
    waiting: int
    """Asked for, but without a job: between two attempts, or in the queue of the study."""
    imported: int
    node_h: float
    mean_trial_s: float | None
    """Node time of a complete trial."""
    best: Trial | None
    failures: dict[str, int]

    def eta_s(self, trials: int, workers: int) -> float | None:
        """Estimate the time until so many trials are done, from the mean of those complete."""
        if self.mean_trial_s is None:
            return None
        return max(0, trials - self.counted) * self.mean_trial_s / workers


def summarise(study: Study, now_s: float) -> Summary:
    """Count what a study has."""
    own = study.own
    states = Counter(t.state for t in own)
    open_attempts = [t.attempt for t in own if t.attempt is not None]
    running = sum(a.started_s is not None for a in open_attempts)
    complete_s = [t.seconds for t in own if t.state is TrialState.COMPLETE]
    return Summary(
        trials=len(own),
        complete=states[TrialState.COMPLETE],
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


def value_text(trial: Trial) -> str:
    """Write the value of a trial with its 95 % interval, which a pAUC bounds by 0 and 1."""
    if trial.value is None:
        return "-"
    if trial.value_se is None:
        return f"{trial.value:.4f}"
    low, high = interval(trial.value, trial.value_se)
    return f"{trial.value:.4f} [{low:.4f}, {high:.4f}]"


def interval(value: float, se: float) -> tuple[float, float]:
    """Return the 95 % interval of a pAUC, within 0 and 1 as it is itself.

    Example:
        >>> interval(0.75, 0.25)
        (0.26, 1.0)
    """
    half = INTERVAL * se
    return max(min(value, 0.0), value - half), min(max(value, 1.0), value + half)


def param_cells(trial: Trial, names: Sequence[str]) -> tuple[str, ...]:
    """Write the values of a trial, one cell each; empty where it lacks the parameter."""
    values = (trial.params.get(name, "") for name in names)
    return tuple(f"{v:.3g}" if isinstance(v, float) else str(v) for v in values)


def one_line(summary: Summary, trials: int | None = None, workers: int | None = None) -> str:
    """Write where a study stands, for a log."""
    goal = f"/{trials}" if trials else ""
    text = (
        f"{summary.complete}{goal} complete, {summary.failed} failed, {summary.cancelled} "
        f"cancelled, {summary.running} running, {summary.queued} queued"
    )
    if summary.waiting:
        text += f", {summary.waiting} waiting for a worker"
    if summary.best is not None:
        text += f"; best {value_text(summary.best)} in trial {summary.best.number}"
    if trials and workers and (eta := summary.eta_s(trials, workers)) is not None:
        text += f"; about {duration(eta)} to go"
    return text


def trial_row(trial: Trial, now_s: float) -> tuple[str, ...]:
    """Write one trial as the cells of :data:`COLUMNS`."""
    state = str(trial.state)
    seconds = trial.seconds
    if trial.attempt is not None:
        state = "queued" if trial.attempt.started_s is None else "running"
        seconds += max(0.0, now_s - (trial.attempt.started_s or now_s))
    if trial.cancelling and trial.pending:
        state = "cancelling"
    if trial.reason is not None:
        state += f" ({trial.reason})"
    value = value_text(trial)
    if trial.value is None and trial.curve:
        value = f"({trial.curve[-1].value:.4f} at epoch {trial.curve[-1].epoch})"
    return (
        str(trial.number),
        state,
        value,
        duration(seconds),
        str(len(trial.attempts)),
        trial.source,
    )


COLUMNS = ("trial", "state", "value", "node time", "jobs", "source")
