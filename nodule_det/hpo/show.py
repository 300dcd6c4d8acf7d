"""``python -m nodule_det.hpo.show``: one trial, with the command that reruns it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nodule_det.cli import command
from nodule_det.config.hpo_tools import ShowConfig

if TYPE_CHECKING:
    from nodule_det.hpo.study.study import Study, StudyFolder
    from nodule_det.hpo.study.trial import Trial

MAX_SCRIPT_BYTES = 1_000_000


@command("hpo show", ShowConfig)
def main(config: ShowConfig) -> None:
    """Print everything known about a trial.  The last line is its command, ready to paste."""
    import time

    from nodule_det.errors import StudyError
    from nodule_det.hpo.model.expected import load_expected
    from nodule_det.hpo.study.study import StudyFolder, read_study
    from nodule_det.hpo.view.summary import columns, expected_text, trial_row
    from nodule_det.untrusted import printable

    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    trial = study.trial(config.trial) if config.trial else study.best()
    if trial is None:
        raise StudyError(f"{folder.path} has no complete trial yet; set trial=NUMBER")
    row = trial_row(trial, time.time(), study.objective)
    for name, cell in zip(columns(study.objective), row, strict=True):
        print(f"{name}: {cell}")
    expected = load_expected(folder.path, study)
    if expected is not None and not config.trial:
        print(expected_text(expected, study))
    for name, value in trial.params.items():
        print(f"  {name}: {printable(str(value))}")
    for attempt in trial.attempts:
        how = attempt.reason or ("open" if attempt.open else "done")
        print(f"job {attempt.job} ({attempt.name}): {how}, {attempt.seconds:.0f} s")
    if trial.message:
        print(f"message: {trial.message}")
    script = _script(folder, trial)
    if script:
        print(f"folder: {folder.trial(trial.number)}")
        print("\n".join(map(printable_line, script)))
    else:
        why = "this study has not run it" if not trial.attempts else "its job.sh cannot be read"
        print(f"{why} ({trial.source}); its command would be:")
        print(printable_line(_command(study, folder, trial)))


def printable_line(line: str) -> str:
    """Return a line of a script, with characters replaced that are unsafe on a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in line)


def _script(folder: StudyFolder, trial: Trial) -> list[str]:
    """Read the script of the last attempt, whose last line starts the training; [] if missing."""
    from nodule_det.packing import read_packed

    if not trial.attempts:
        return []
    here = folder.trial(trial.number)
    script = folder.attempt(trial.number, trial.attempts[-1].number) / "job.sh"
    try:
        content = read_packed(here, str(script.relative_to(here)), MAX_SCRIPT_BYTES)
    except (FileNotFoundError, ValueError):
        return []
    text = content.decode(errors="replace")
    return text.replace("\nexec ", "\n").rstrip("\n").split("\n")


def _command(study: Study, folder: StudyFolder, trial: Trial) -> str:
    import shlex

    from nodule_det.config.hpo import DispatcherConfig
    from nodule_det.hpo.training.command import command_words

    here, header = folder.trial(trial.number), study.header
    words = command_words(header.command, header.train, trial.params, here, DispatcherConfig())
    return shlex.join(words)


if __name__ == "__main__":
    main()
