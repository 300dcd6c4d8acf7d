"""A study over time: how the best value rose, which worker was busy when, and how trials ended.

    Study ──best_so_far()──▶ list[Ended]    one for each trial that has ended
          ──timeline()─────▶ list[Span]     one for each stretch of a job, on its worker's lane
          ──endings()──────▶ list[Ending]   why trials and jobs ended without a value

Derived from the trials alone, so it works for a study that is running, paused or complete.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import Attempt, Reason, Trial, TrialState


class Doing(StrEnum):
    """State of a worker's job during a span of time."""

    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Cancelled by the user."""
    WENT_ON = "went on in another job"
    """Lost, killed, or stopped at its wall-clock limit; its trial was started again."""
    RUNNING = "running"
    QUEUED = "queued"


@dataclass(frozen=True)
class Ended:
    """A trial that has ended."""

    jobs: int
    """Number of trials that had ended by then, including this one."""
    hours: float
    """Time since the first trial was proposed."""
    trial: Trial
    best: Trial | None
    """The best trial so far."""


@dataclass(frozen=True)
class Span:
    """A span of time on a worker's lane, in hours since the first trial was proposed."""

    lane: int
    """From 0.  The journal does not record workers: a trial takes the lowest free lane."""
    trial: int
    doing: Doing
    begin_h: float
    end_h: float


@dataclass(frozen=True)
class Ending:
    """How often something ended for one reason, and what it cost."""

    what: str
    """``failed``, ``cancelled``, or ``job`` for jobs whose trial continued in another one."""
    reason: str
    count: int
    node_h: float
    trial: int
    """Number of the latest of these trials."""
    message: str
    """The message of its training."""


def start_s(study: Study) -> float:
    """Return the Unix time at which the study's clock begins."""
    return min((t.asked_s for t in study.own), default=study.header.created_s)


def last_seen_s(study: Study) -> float:
    """Return the latest time in any record of a trial."""
    return max((time for t in study.own for time in _times(t)), default=start_s(study))


def _times(trial: Trial) -> Iterator[float]:
    yield trial.asked_s
    if trial.finished_s is not None:
        yield trial.finished_s
    for a in trial.attempts:
        yield from (x for x in (a.intent_s, a.submitted_s, a.started_s, a.ended_s) if x is not None)


def best_so_far(study: Study) -> list[Ended]:
    """Return this study's own ended trials in order, each with the best so far.

    Refused trials are left out, because they never became jobs.
    """
    begin = start_s(study)
    over = [t for t in study.own if not t.pending and t.reason is not Reason.REFUSED]
    over.sort(key=lambda t: t.finished_s or begin)
    rows: list[Ended] = []
    best: Trial | None = None
    highest = -math.inf
    for jobs, trial in enumerate(over, 1):
        if trial.value is not None and trial.value > highest:
            best, highest = trial, trial.value
        rows.append(Ended(jobs, ((trial.finished_s or begin) - begin) / 3600, trial, best))
    return rows


def timeline(study: Study, now_s: float) -> list[Span]:
    """Arrange all jobs on lanes, one lane per worker; open jobs extend to ``now_s``."""
    begin = start_s(study)
    free_s: list[float] = []
    spans: list[Span] = []
    for trial in sorted(study.own, key=lambda t: (t.asked_s, t.number)):
        lane = next((i for i, s in enumerate(free_s) if s <= trial.asked_s), len(free_s))
        end_s = trial.finished_s if trial.finished_s is not None else now_s
        free_s[lane : lane + 1] = [max(end_s, trial.asked_s)]
        for attempt in trial.attempts:
            for doing, from_s, to_s in _stretches(trial, attempt, now_s):
                times_h = (from_s - begin) / 3600, (to_s - begin) / 3600
                spans.append(Span(lane, trial.number, doing, *times_h))
    return spans


def _stretches(trial: Trial, a: Attempt, now_s: float) -> Iterator[tuple[Doing, float, float]]:
    """Split a job into its wait and its run, leaving out spans of zero length."""
    end_s = now_s if a.ended_s is None else a.ended_s
    run_s = end_s if a.started_s is None else a.started_s
    if run_s > a.intent_s:
        yield Doing.QUEUED, a.intent_s, run_s
    if end_s > run_s:
        yield _outcome(trial, a), run_s, end_s


def _outcome(trial: Trial, attempt: Attempt) -> Doing:
    if attempt.open:
        return Doing.RUNNING
    if trial.pending or attempt is not trial.attempts[-1]:
        return Doing.WENT_ON
    return Doing(trial.state.value)


def busy_share(study: Study, spans: Sequence[Span], now_s: float) -> float | None:
    """Return the share of the workers' time in which a job ran; None if there was none yet.

    Each session of the driver counts, with its workers, until the next one begins, with pauses.
    """
    ends = [*(s.started_s for s in study.sessions), now_s][1:]
    offered_s = sum(
        s.workers * max(0.0, end - s.started_s) for s, end in zip(study.sessions, ends, strict=True)
    )
    ran_s = sum(3600 * (s.end_h - s.begin_h) for s in spans if s.doing is not Doing.QUEUED)
    return min(1.0, ran_s / offered_s) if offered_s > 0 else None


def endings(study: Study) -> list[Ending]:
    """Count failed and cancelled trials, and jobs that needed a successor, by reason."""
    groups: dict[tuple[str, str], list[tuple[Trial, float]]] = {}
    for trial in study.own:
        if trial.state in (TrialState.FAILED, TrialState.CANCELLED):
            key = (str(trial.state), _words(trial.reason))
            groups.setdefault(key, []).append((trial, trial.seconds))
        for attempt in trial.attempts:
            if not attempt.open and _outcome(trial, attempt) is Doing.WENT_ON:
                groups.setdefault(("job", _words(attempt.reason)), []).append(
                    (trial, attempt.seconds)
                )
    return [
        Ending(
            *(what, reason, len(found), sum(s for _, s in found) / 3600),
            trial=found[-1][0].number,
            message=(found[-1][0].message or "") if what != "job" else "",
        )
        for (what, reason), found in sorted(groups.items(), key=lambda g: (g[0][0], -len(g[1])))
    ]


def _words(reason: Reason | None) -> str:
    return "without a reason" if reason is None else reason.value.replace("_", " ")
