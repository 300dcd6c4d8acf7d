"""``python -m nodule_det.hpo.status``: the state of a study, with or without a running driver."""

from __future__ import annotations

from pathlib import Path

from nodule_det.cli import command
from nodule_det.config.hpo_tools import StatusConfig


@command("hpo status", StatusConfig)
def main(config: StatusConfig) -> None:
    """Print all trials as a table, then one line of counts."""
    import time

    from rich.console import Console

    from nodule_det.hpo.model.expected import load_expected
    from nodule_det.hpo.study.study import StudyFolder, read_study
    from nodule_det.hpo.view.live import table
    from nodule_det.hpo.view.summary import expected_text, one_line, summarise
    from nodule_det.locking import why_gone

    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    now = time.time()
    console = Console(width=500, highlight=False)  # a terminal wraps long lines
    console.print(table(study, study.trials, now))
    for problem in study.problems:
        console.print(f"problem: {problem}", markup=False)
    summary = summarise(study, now)
    expected = load_expected(folder.path, study)
    failures = ", ".join(f"{n} {reason}" for reason, n in sorted(summary.failures.items()))
    holder, gone = why_gone(folder.lock)
    console.print(
        one_line(summary)
        + (f"; {expected_text(expected, study)}" if expected else "")
        + f"\n{summary.node_h:.2f} node hours"
        + (f"; failed: {failures}" if failures else "")
        + (f"; driver: {holder}{gone and f', {gone}'}" if holder else "; no driver"),
        markup=False,
    )


if __name__ == "__main__":
    main()
