"""The report page: a study's journal -> one self-contained HTML file, and PNGs beside it.

Study ──draw_all()──▶ figures ──┬──▶ report.html   (page.html.j2, page.css, page.js)
      ──Insight, tables─────────┘    NAME.png, one for each figure
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from nodule_det import __version__
from nodule_det.config.hpo_tools import StudyReportConfig
from nodule_det.files import write_text
from nodule_det.hpo.model.expected import save_expected
from nodule_det.hpo.report.cache import insight_of
from nodule_det.hpo.report.figures import draw_best, draw_states, draw_workers
from nodule_det.hpo.report.history import (
    best_so_far,
    busy_share,
    endings,
    last_seen_s,
    start_s,
    timeline,
)
from nodule_det.hpo.report.insight import MODEL_FROM, Insight
from nodule_det.hpo.report.space_figures import (
    draw_importance,
    draw_parallel,
    draw_slices,
    short_names,
    tick_text,
)
from nodule_det.hpo.study.objective import INTERVAL, Objective
from nodule_det.hpo.study.study import Study, StudyFolder, read_study
from nodule_det.hpo.study.trial import Trial
from nodule_det.hpo.view.summary import columns, expected_text, one_line, summarise, trial_row
from nodule_det.locking import why_gone
from nodule_det.plots.style import as_svg, save_png
from nodule_det.progress import duration

PAGE = "report.html"


@dataclass(frozen=True)
class Moment:
    """The study at the moment of the report."""

    study: Study
    given: str
    """Its folder, as the user typed it."""
    name: str
    now_s: float
    """End of open jobs in the figures: now if a driver is running, otherwise the last time in the
    journal, because the state of jobs since then is unknown."""
    driver: str
    """The driver of the study; empty if none is running."""


def write_report(config: StudyReportConfig) -> tuple[Path, Study]:
    """Write the page and its PNGs; return the path of the page, and the study.

    Reads the journal and checks whether a driver is running, without locking the study.

    Raises:
        StudyError: If the folder holds no study.
    """
    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    holder, gone = why_gone(folder.lock)
    driven = holder is not None and not gone
    now_s = max(time.time(), last_seen_s(study)) if driven else last_seen_s(study)
    name = folder.path.resolve().name
    moment = Moment(study, config.study, name, now_s, str(holder) if driven else "")
    out = Path(config.out) if config.out else folder.report
    out.mkdir(parents=True, exist_ok=True)
    insight = insight_of(study, config.seed, out)
    if insight is not None and not config.out:  # the study itself may be read-only
        save_expected(folder.path, study, insight.most_expected)
    figures = draw_all(moment, insight)
    for name, figure in figures.items():
        save_png(figure, out / f"{name}.png")
    for name in _FIGURES.keys() - figures.keys():
        (out / f"{name}.png").unlink(missing_ok=True)  # of an earlier state, with another model
    write_text(out / PAGE, render(moment, insight, figures))
    return out / PAGE, study


_FIGURES = {
    "best_against_jobs": "Best value so far against the number of trials that have ended.",
    "best_against_hours": "The same against wall-clock time.",
    "workers": "Who was busy when.",
    "states": "Trials by state and reason.",
    "parallel": "All trials, one axis for each parameter.",
    "slices": "The model along each parameter.",
    "importance": "How much each parameter matters.",
}


def draw_all(moment: Moment, insight: Insight | None) -> dict[str, Figure]:
    """Draw all figures for which the study has data, keyed by file name."""
    study = moment.study
    ended = best_so_far(study)
    figures = {
        "best_against_jobs": draw_best(ended, "jobs", study.objective),
        "best_against_hours": draw_best(
            ended, "hours", study.objective, (moment.now_s - start_s(study)) / 3600
        ),
        "workers": draw_workers(timeline(study, moment.now_s)),
        "states": draw_states(study),
        "parallel": draw_parallel(study.space, study.trials, study.objective),
    }
    if insight is not None:
        figures["slices"] = draw_slices(insight, study.space, study.trials, study.objective)
        figures["importance"] = draw_importance(insight, study.space)
    return figures


def render(moment: Moment, insight: Insight | None, figures: dict[str, Figure]) -> str:
    """Write the page as text."""
    study = moment.study
    here = files("nodule_det.hpo.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8"))
    summary = summarise(study, moment.now_s)
    busy = busy_share(study, timeline(study, moment.now_s), moment.now_s)
    return template.render(
        title=f"Study {moment.name}",
        css=here.joinpath("page.css").read_text(encoding="utf-8"),
        js=here.joinpath("page.js").read_text(encoding="utf-8"),
        objective=study.objective,
        best=summary.best,
        best_value=_best_value(summary.best, study.objective),
        best_params=_best_params(summary.best),
        counts=one_line(summary),
        imported=summary.imported,
        node_h=f"{summary.node_h:.1f}",
        span=duration(moment.now_s - start_s(study)),
        busy=None if busy is None else f"{100 * busy:.1f}",
        workers=study.sessions[-1].workers if study.sessions else 0,
        as_of=time.strftime("%Y-%m-%d %H:%M", time.localtime(moment.now_s)),
        driver=moment.driver,
        interval=_interval(summary.best, study.objective),
        insight=insight,
        model_from=MODEL_FROM,
        expected=_expected(insight, study.objective),
        most_expected="" if insight is None else expected_text(insight.most_expected, study),
        endings=endings(study),
        problems=study.problems,
        svg={name: as_svg(figure, name) for name, figure in figures.items()},
        captions=_FIGURES,
        columns=_columns(study),
        command=f"python -m nodule_det.hpo.show study={moment.given}",
        footer=f"nodule_det {__version__}, study {study.header.id}",
        data_json=_script_json(_rows(study, moment.now_s)),
    )


def _best_value(best: Trial | None, objective: Objective) -> str:
    return "" if best is None or best.value is None else _short(objective.reported(best.value))


def _interval(best: Trial | None, objective: Objective) -> tuple[str, str] | None:
    if best is None or best.value is None or best.value_se is None:
        return None
    low, high = objective.interval(best.value, best.value_se)
    return _short(low), _short(high)


def _expected(insight: Insight | None, objective: Objective) -> str:
    """Format the model's estimate for the best trial, with its 95% confidence interval."""
    if insight is None:
        return ""
    half = INTERVAL * insight.expected_sd
    return f"{_short(objective.reported(insight.expected))} ± {_short(half)}"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def _best_params(best: Trial | None) -> list[tuple[str, str]]:
    return [] if best is None else [(name, tick_text(v)) for name, v in best.params.items()]


def _columns(study: Study) -> list[tuple[str, str]]:
    """Return the heading and explanation of each column of the table."""
    names = short_names(study.space)
    more = ("", "", "with its 95% confidence interval", "", "jobs that it took", "who proposed it")
    fixed = list(zip(columns(study.objective), more, strict=True))
    return fixed + [(names[p.name], p.name) for p in study.space.free]


def _rows(study: Study, now_s: float) -> list[dict[str, Any]]:
    """Return the table's rows for ``page.js``: the text of each cell, and its sort key."""
    rows = []
    for trial in study.trials:
        number, state, value, node_time, jobs, source = trial_row(trial, now_s, study.objective)
        values = [trial.params.get(p.name) for p in study.space.free]
        texts = ["" if v is None else tick_text(v) for v in values]
        keys = [trial.number, state, trial.value]
        rows.append(
            {
                "state": trial.state.value,
                "cells": [number, state, value, node_time, jobs, source, *texts],
                "keys": [*keys, trial.seconds, len(trial.attempts), source, *values],
                "message": trial.message or "",
            }
        )
    return rows


def _script_json(data: Any) -> str:
    """Return JSON that cannot close the script element around it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
