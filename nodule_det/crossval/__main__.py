"""``python -m nodule_det.crossval``: every fold trained, pooled and evaluated.

CrossvalConfig ──folds──▶ a study of one trial per fold ──driver──▶ run folders ──pool──▶ FROC
"""

from __future__ import annotations

import os
from pathlib import Path

from nodule_det.cli import calculate_in_one_thread, command
from nodule_det.config.crossval import CrossvalConfig
from nodule_det.config.train import TrainConfig


@command("crossval", CrossvalConfig)
def main(config: CrossvalConfig) -> int | None:
    """Train the missing folds, then pool and evaluate all of them and write the model folder."""
    os.umask(0o077)
    calculate_in_one_thread()
    from nodule_det.crossval.folds import (
        fold_parameters,
        fold_points,
        require_complete,
        run,
        training_plan,
    )
    from nodule_det.crossval.pool import hand_on, pool, report, require_results
    from nodule_det.data.store import open_store
    from nodule_det.hpo.driver.forecast import Plan
    from nodule_det.hpo.training.command import overrides

    out = Path(os.path.abspath(os.path.expanduser(config.out)))
    store = open_store(config.train.store)
    lesions = store.lesions_by_fold
    points = fold_points(config.train.store, lesions, config.folds, config.selection)
    plan = training_plan(
        out,
        fold_parameters(lesions, config.selection),
        {f"fold{fold}": point for fold, point in points.items()},
        config,
        config.train,
        Plan("crossval"),
        without="folds=[...] evaluates only the others",
    )
    code = run(plan)
    if code or config.dry_run or plan.stopping:
        return code
    complete = require_complete(plan)
    runs = {fold: complete[f"fold{fold}"] for fold in points}
    require_results(runs, config.selection, store)
    pooled = pool(out, runs, config.selection)
    print(report(out, pooled, config.bootstrap).text)
    settings = overrides(config.train, TrainConfig())
    print(hand_on(out / "model", list(runs.values()), pooled, settings))
    return None


if __name__ == "__main__":
    main()
