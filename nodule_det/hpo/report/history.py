"""A study in time: how the best value rose, who worked when, and what became of the trials.

    Study ──best_so_far()──▶ list[Ended]    one for each trial that is over
          ──timeline()─────▶ list[Span]     one for each stretch of a job, on its worker's lane
          ──endings()──────▶ list[Ending]   why trials and jobs ended otherwise than with a value

Derived from the trials alone, so it is the same for a study that runs, rests or is done.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import Attempt, Reason, Trial, TrialState


class Doing(StrEnum):
    """What a worker's job did for a while."""

    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """By hand or by the stopping rule."""
    WENT_ON = "went on in another job"
    """Lost, killed, or stopped at its wall-clock limit; its trial was started again."""
    RUNNING = "running"
    QUEUED = "queued"


@dataclass(frozen=True)
class Ended:
    """A trial that is over, in the order of the ends."""

    jobs: int
    """Trials that were over by then, this one included."""
    hours: float
    """Since the first trial was asked for."""
    trial: Trial
    best: Trial | None
    """The best one so far."""


@dataclass(frozen=True)
class Span:
    """A stretch of time on a worker's lane, in hours since the first trial was asked for."""

    lane: int
    """From 0.  The journal knows no workers: each trial takes the lowest lane that is free."""
    trial: int
    doing: Doing
    begin_h: float
    end_h: float


@dataclass(frozen=True)
class Ending:
    """How often something ended for one reason, and what it cost."""

    what: str
    """``failed``, ``cancelled``, or ``job`` for jobs whose trial went on in another one."""
    reason: str
    count: int
    node_h: float
    trial: int
    """The latest of them."""
    message: str
    """What its training said."""


def start_s(study: Study) -> float:
    """Return the Unix time at which the study's clock begins."""
    return min((t.asked_s for t in study.own), default=study.header.created_s)


def last_seen_s(study: Study) -> float:
    """Return the latest time that any record of a trial tells."""
    return max((time for t in study.own for time in _times(t)), default=start_s(study))


def _times(trial: Trial) -> Iterator[float]:
    yield trial.asked_s
    if trial.finished_s is not None:
        yield trial.finished_s
    for a in trial.attempts:
        yield from (x for x in (a.intent_s, a.submitted_s, a.started_s, a.ended_s) if x is not None)


def best_so_far(study: Study) -> list[Ended]:
    """Follow the best value through the ends of this study's own trials, but refused ones.

    What was refused never was a job: it would stretch the axis of jobs by nothing.
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
    """Lay all jobs out on lanes, one lane for each worker; open jobs reach up to now."""
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
    """Cut a job into its wait and its run; a stretch without length is left out."""
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
    """Return the share of the workers' time in which a job ran; None before there was any.

    A session of the driver counts with its workers up to the next one, pauses included.
    """
    ends = [*(s.started_s for s in study.sessions), now_s][1:]
    offered_s = sum(
        s.workers * max(0.0, end - s.started_s) for s, end in zip(study.sessions, ends, strict=True)
    )
    ran_s = sum(3600 * (s.end_h - s.begin_h) for s in spans if s.doing is not Doing.QUEUED)
    return min(1.0, ran_s / offered_s) if offered_s > 0 else None


def endings(study: Study) -> list[Ending]:
    """Count failed and cancelled trials, and jobs that had to be followed by another, by reason."""
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
