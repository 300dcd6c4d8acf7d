"""Remove checkpoints that are no longer needed, so that a long study does not fill the disk.

finished trials ──tidy()──▶ no last.pt, and best.pt only for the best keep.best
"""

from __future__ import annotations

from nodule_det.hpo.driver.context import PASSING, DriverContext
from nodule_det.hpo.training.disk import best_numbers, is_over, unneeded


def tidy(context: DriverContext) -> None:
    """Remove checkpoints of finished trials; a trial is checked again until all are removed."""
    folder = context.writer.folder
    best = best_numbers(context.study, context.config.keep.best)
    for trial in context.study.own:
        if trial.pending or trial.number in context.notes.tidied or not is_over(trial, folder):
            continue
        for path in unneeded(trial, folder, best):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                if error.errno in PASSING:
                    raise
                context.say_once(f"{path} cannot be removed: {error.strerror}")
        if trial.number not in best:
            context.notes.tidied.add(trial.number)
