"""``python -m nodule_det.hpo.show``: one trial, with the command line that runs it again."""

from __future__ import annotations

from pathlib import Path

from nodule_det.cli import command
from nodule_det.config.hpo_tools import ShowConfig


@command("hpo show", ShowConfig)
def main(config: ShowConfig) -> None:
    """Print what is known of a trial, its command last, to be pasted."""
    import shlex
    import time

    from nodule_det.config.hpo import DispatcherConfig
    from nodule_det.errors import StudyError
    from nodule_det.hpo.study.study import StudyFolder, read_study
    from nodule_det.hpo.training.command import command_words
    from nodule_det.hpo.view.summary import COLUMNS, trial_row

    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    trial = study.trial(config.trial) if config.trial else study.best()
    if trial is None:
        raise StudyError(f"{folder.path} has no complete trial yet; give trial=NUMBER")
    for name, cell in zip(COLUMNS, trial_row(trial, time.time()), strict=True):
        print(f"{name}: {cell}")
    for name, value in trial.params.items():
        print(f"  {name}: {value}")
    for attempt in trial.attempts:
        how = attempt.reason or ("open" if attempt.open else "done")
        print(f"job {attempt.job} ({attempt.name}): {how}, {attempt.seconds:.0f} s")
    if trial.message:
        print(f"message: {trial.message}")
    if not trial.attempts:
        here, words = folder.trial(trial.number), study.header
        print(f"this study has not run it ({trial.source}); its command would be")
        site = DispatcherConfig()
        print(shlex.join(command_words(words.command, words.train, trial.params, here, site)))
    else:
        print(f"folder: {folder.trial(trial.number)}")
        script = folder.attempt(trial.number, trial.attempts[-1].number) / "job.sh"
        print(script.read_text(encoding="utf-8").replace("\nexec ", "\n"), end="")


if __name__ == "__main__":
    main()
