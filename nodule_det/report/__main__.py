"""``python -m nodule_det.report run=FOLDER``: one self-contained HTML page of a training run."""

from __future__ import annotations

from nodule_det.cli import command
from nodule_det.config.report import ReportConfig
from nodule_det.progress import counted


@command("report", ReportConfig)
def main(config: ReportConfig) -> None:
    """Write the page; the heavy imports wait until the settings are known to be right."""
    from nodule_det.report.page import write_report

    path, n_findings = write_report(config)
    size_mb = path.stat().st_size / 1e6
    print(f"{path}: {counted(n_findings, 'finding')}, {size_mb:.1f} MB; open it in a browser")


if __name__ == "__main__":
    main()
