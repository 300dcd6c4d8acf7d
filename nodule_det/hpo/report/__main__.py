"""``python -m nodule_det.hpo.report study=DIR``: one HTML page of a study, and PNGs beside it."""

from __future__ import annotations

import os

from nodule_det.cli import command
from nodule_det.config.hpo_tools import StudyReportConfig
from nodule_det.progress import counted


@command("hpo report", StudyReportConfig)
def main(config: StudyReportConfig) -> None:
    """Write the page; the heavy imports wait until the settings are known to be right."""
    os.umask(0o077)
    from nodule_det.hpo.report.page import write_report

    path, study = write_report(config)
    print(f"{path}: {counted(len(study.trials), 'trial')}; open it in a browser")


if __name__ == "__main__":
    main()
