"""``python -m nodule_det.hpo.finish``: retrain the best settings of a study, and write a model.

    Study ──plan──▶ trainings of every fold ──choose──▶ model/ ──test_set──▶ finish.json, .html

The tuning driver runs the trainings, so they survive kills and run on every batch system.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodule_det.cli import calculate_in_one_thread, command
from nodule_det.config.hpo_finish import FinishConfig

if TYPE_CHECKING:
    from nodule_det.crossval.folds import TrainingPlan


@command("hpo finish", FinishConfig)
def main(config: FinishConfig) -> int | None:
    """Run the missing trainings, then compare, choose, write the model, and test it once."""
    os.umask(0o077)
    calculate_in_one_thread()
    from nodule_det.crossval.folds import require_complete, run
    from nodule_det.crossval.pool import hand_on
    from nodule_det.data.store import open_store
    from nodule_det.files import write_json
    from nodule_det.hpo.finish.choose import choose, cross_validate
    from nodule_det.hpo.finish.page import summary, write_page
    from nodule_det.hpo.finish.plan import best_settings, finish_plan, train_settings
    from nodule_det.hpo.finish.test_set import scoring_plan
    from nodule_det.hpo.study.study import read_study
    from nodule_det.hpo.training.check import with_params
    from nodule_det.hpo.training.command import override_words
    from nodule_det.progress import counted

    folder = Path(os.path.abspath(os.path.expanduser(config.study)))
    out = Path(os.path.abspath(os.path.expanduser(config.out or str(folder / "finish"))))
    study = read_study(folder)
    train = train_settings(study.header)
    store = open_store(train.store)
    contenders = best_settings(study, config.settings, config.exclude)
    plan, folds = finish_plan(config, study, contenders, store.lesions_by_fold, out)
    if not (config.dry_run or plan.stopping):
        print(
            f"{counted(len(contenders), 'setting')} x {counted(len(config.seeds), 'seed')} x "
            f"{counted(len(folds), 'fold')}: {counted(len(plan.points), 'training')}",
            flush=True,
        )
    code = run(plan)
    if plan.stopping and (out / "model").is_dir():
        _stop_test(scoring_plan(config, folder, out / "model", train))
    if code or config.dry_run or plan.stopping:
        return code
    complete = require_complete(plan)
    finalists = [cross_validate(config, c, complete, folds, store, out) for c in contenders]
    record = choose(config, finalists)
    winner = next(f for f in finalists if f.number == record["chosen"])
    settings = [*study.header.train, *override_words(winner.contender.trial.params)]
    text = hand_on(out / "model", winner.runs, winner.pooled[0], settings, config.licence)
    record["test_scans"] = len(store.test)
    if any(scan.lesions for scan in store.test):
        chosen = with_params(train, winner.contender.trial.params)
        code = _test(scoring_plan(config, folder, out / "model", chosen), out, record)
        if code:
            return code
    write_json(out / "finish.json", record)
    write_page(out / "finish.html", record, folder.name)
    print(summary(record))
    for line in winner.warnings:
        print(f"warning: {line}")
    print(f"page     {out / 'finish.html'}\n{text}")
    return None


def _test(plan: TrainingPlan, out: Path, record: dict[str, Any]) -> int | None:
    """Test the model once, and add the figures to it and to the record.

    Returns:
        The exit code where the test was interrupted.
    """
    from nodule_det.crossval.folds import is_complete, require_complete, run
    from nodule_det.ensemble.folder import add_figures
    from nodule_det.hpo.finish.test_set import NAME, figures_of

    if not is_complete(plan):
        print("testing the model once, on the test set of the store", flush=True)
        if code := run(plan):
            return code
    record[NAME] = figures_of(require_complete(plan)[NAME], plan.folder.path.parent)
    add_figures(out / "model", NAME, record[NAME])
    return None


def _stop_test(plan: TrainingPlan) -> None:
    """Cancel the job of the test, if there ever was one."""
    from nodule_det.crossval.folds import run
    from nodule_det.hpo.driver.open_study import has_study

    if has_study(plan.folder):
        run(plan)


if __name__ == "__main__":
    main()
