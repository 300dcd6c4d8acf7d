"""``python -m nodule_det.evaluate``: FROC figures of any detector whose candidates are a CSV.

CSV files ──read_job()──▶ Job ──evaluate()──▶ froc.json, froc_curve.csv, froc.png/.svg/.pdf
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nodule_det.cli import command
from nodule_det.config.evaluate import EvaluateConfig
from nodule_det.files import write_json

if TYPE_CHECKING:
    from nodule_det.evaluate.sections import Evaluated


@command("evaluate", EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    """Evaluate, write the files, and print the figures."""
    from nodule_det.evaluate.reading import read_job
    from nodule_det.evaluate.sections import evaluate

    job = read_job(
        Path(config.candidates),
        Path(config.annotations),
        Path(config.scans),
        Path(config.excluded) if config.excluded else None,
        config.patients,
    )
    done = evaluate(config, job)
    out = Path(config.out)
    write(out, done)  # first: what reads the output may close it early
    print("\n\n".join(done.sections))
    print(f"\nwritten  {out / 'froc.json'}, froc_curve.csv, froc.png, froc.svg, froc.pdf")


def write(out: Path, done: Evaluated) -> None:
    """Write the record, the points of the curve, and its pictures."""
    from nodule_det.plots.froc_curve import save_curve
    from nodule_det.tables import write_table

    out.mkdir(parents=True, exist_ok=True)
    froc = done.froc
    write_json(out / "froc.json", done.record)
    rows = zip(froc.fp_per_scan, froc.curve_sensitivity, froc.curve_threshold, strict=True)
    write_table(
        out / "froc_curve.csv",
        ("fp_per_scan", "sensitivity", "threshold"),
        ((f, s, "" if t is None else t) for f, s, t in rows),
    )
    for suffix in ("png", "svg", "pdf"):
        save_curve(froc, out / f"froc.{suffix}")


if __name__ == "__main__":
    main()
