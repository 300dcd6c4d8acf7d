"""Free the disk space of finished trials, so that a long study does not fill the disk.

finished trials ──tidy()──▶ no last.pt, best.pt only for the best keep.best, files.zip
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nodule_det.hpo.driver.context import PASSING, DriverContext
from nodule_det.hpo.study.trial import Trial
from nodule_det.hpo.training.disk import best_numbers, is_over, pack_trial, unneeded


def tidy(context: DriverContext) -> None:
    """Remove checkpoints of finished trials and pack their small files.

    A trial is checked again in each step until nothing is left to remove.
    """
    folder = context.writer.folder
    best = best_numbers(context.study, context.config.keep.best)
    for trial in context.study.own:
        if trial.pending or trial.number in context.notes.tidied or not is_over(trial, folder):
            continue
        for path in unneeded(trial, folder, best):
            _trying(context, f"{path} cannot be removed", path.unlink)
        if trial.number not in context.notes.packed:
            context.notes.packed.add(trial.number)
            _pack(context, trial)
        if trial.number not in best:
            context.notes.tidied.add(trial.number)


def _pack(context: DriverContext, trial: Trial) -> None:
    run_dir, ours = context.run_dir(trial), not context.study.header.command
    if context.config.keep.pack:
        what = f"the files of {run_dir} cannot be packed"
        _trying(context, what, partial(pack_trial, run_dir, ours=ours))


def _trying(context: DriverContext, failure: str, action: Callable[[], object]) -> None:
    """Report an error that waiting would not resolve, and continue; raise all others."""
    try:
        action()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise
        context.say_once(f"{failure}: {error}")
