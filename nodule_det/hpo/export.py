"""``python -m nodule_det.hpo.export``: the trials as a CSV file, or as an Optuna study.

Both are views, rebuilt from the journal each time.  Nothing reads them back.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodule_det.cli import command
from nodule_det.config.hpo_tools import ExportConfig
from nodule_det.errors import ConfigError
from nodule_det.files import replacing
from nodule_det.hpo.space.space import Kind, Parameter
from nodule_det.hpo.study.objective import Objective
from nodule_det.hpo.study.study import Study, StudyFolder, read_study
from nodule_det.hpo.study.trial import Reason, Trial, TrialState
from nodule_det.progress import counted
from nodule_det.untrusted import printable

if TYPE_CHECKING:
    import optuna

COLUMNS = (
    *("trial", "state", "reason", "value", "value_se", "source", "jobs", "node_s"),
    *("peak_memory_bytes", "asked_s", "finished_s"),
)


@command("hpo export", ExportConfig)
def main(config: ExportConfig) -> None:
    """Write the requested files; by default the CSV file."""
    os.umask(0o077)
    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    if config.csv or not config.optuna:
        path = Path(config.csv) if config.csv else folder.path / "trials.csv"
        write_csv(study, path)
        print(f"{path}: {counted(len(study.trials), 'trial')}")
    if config.optuna:
        write_optuna(study, Path(config.optuna), folder.path.name)
        print(f"{config.optuna}: to view it, run  optuna-dashboard {config.optuna}")


def write_csv(study: Study, path: Path) -> None:
    """Write one row for each trial.  The cell of an absent parameter stays empty.

    The heading of the value is the name of the objective.  Values are as reported.
    """
    names = [p.name for p in study.space]
    heads = [c.replace("value", study.objective.name) for c in COLUMNS]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(map(_as_text, [*heads, *names]))
        for trial in study.trials:
            params = (trial.params.get(name) for name in names)
            writer.writerow(map(_as_text, [*_cells(trial, study.objective), *params]))


def _as_text(cell: Any) -> Any:
    """Return a cell that a spreadsheet does not run as a formula."""
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text


_FORMULA = tuple("=+-@＝＋－＠|%")  # including the full-width characters of East Asian versions


def _cells(t: Trial, objective: Objective) -> list[Any]:
    value = None if t.value is None else objective.reported(t.value)
    return [
        *(t.number, t.state, t.reason, value, t.value_se, t.source, len(t.attempts)),
        *(round(t.seconds, 3), t.peak_memory_bytes, t.asked_s, t.finished_s),
    ]


def write_optuna(study: Study, path: Path, name: str) -> None:
    """Rebuild the study in an Optuna journal file.

    Raises:
        ConfigError: If Optuna is not installed, or the file exists.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise ConfigError(
            "optuna is not installed; install the extra: pip install nodule_det[dashboard]"
        ) from None
    if path.exists():
        raise ConfigError(f"optuna={path} already exists; remove it or use another file")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        storage = JournalStorage(JournalFileBackend(str(temporary)))
        direction = study.objective.direction.value
        view = optuna.create_study(storage=storage, study_name=name, direction=direction)
        view.add_trials([_optuna_trial(t, study) for t in study.trials])
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_OPTUNA_STATE = {
    TrialState.PENDING: "RUNNING",
    TrialState.COMPLETE: "COMPLETE",
    TrialState.FAILED: "FAIL",
    TrialState.CANCELLED: "PRUNED",
}


def _optuna_trial(trial: Trial, study: Study) -> optuna.trial.FrozenTrial:
    import datetime

    import optuna

    def when(seconds: float | None) -> datetime.datetime | None:
        return None if seconds is None else datetime.datetime.fromtimestamp(seconds)

    infeasible = trial.reason is Reason.INFEASIBLE  # Optuna's complete trials need a value
    return optuna.trial.FrozenTrial(
        number=trial.number,
        trial_id=-1,
        state=optuna.trial.TrialState["FAIL" if infeasible else _OPTUNA_STATE[trial.state]],
        value=None if trial.value is None else study.objective.reported(trial.value),
        datetime_start=when(trial.asked_s),
        datetime_complete=None if trial.pending else when(trial.finished_s),
        params={p.name: trial.params[p.name] for p in study.space if p.name in trial.params},
        distributions={p.name: _distribution(p) for p in study.space if p.name in trial.params},
        user_attrs={"trial": trial.number, "source": trial.source, "reason": trial.reason},
        system_attrs={},
        intermediate_values={o.epoch: study.objective.reported(o.value) for o in trial.curve},
    )


def _distribution(p: Parameter) -> optuna.distributions.BaseDistribution:
    import optuna.distributions as d

    if p.kind is Kind.FLOAT:
        return d.FloatDistribution(p.low, p.high, log=p.log)
    if p.kind is Kind.INT:
        return d.IntDistribution(int(p.low), int(p.high), log=p.log, step=p.step)
    return d.CategoricalDistribution(p.values)


if __name__ == "__main__":
    main()
