"""Train the model that comes with the package, from phantoms only: ``make weights``.

    phantoms ──train──▶ best.pt ──held-out phantoms──▶ nodule_det/ensemble/builtin/

It runs the ordinary commands with fixed seeds, and resumes what is there.
``docs/builtin-model.md`` is the model card.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nodule_det import analysis
from nodule_det.checkpoint import load_checkpoint
from nodule_det.config.data import PhantomConfig, PhantomScanners, PhantomShapes
from nodule_det.data.phantom.make import series_uid
from nodule_det.data.phantom.write import write_dataset
from nodule_det.demo import call
from nodule_det.ensemble.calibration import fit_calibration, thresholds
from nodule_det.ensemble.folder import BUILTIN, Model, write_model
from nodule_det.evaluate.reading import read_job
from nodule_det.froc import match
from nodule_det.origin import ScanRecord
from nodule_det.runs import RunFolder

SIZE = [192, 320, 320]
"""Voxels (z, y, x) of 1.3-1.6 x 0.9-1.1 x 0.9-1.1 mm, finer than the demo's."""

TRAINING = [
    "source=phantom", "phantom.n_scans=80", f"phantom.size_vox={SIZE}".replace(" ", ""),
    "phantom.nodules_per_scan=8", "phantom.folds=8", "phantom.seed=1000000",
    "phantom.shapes=even", "phantom.scanners=varied",
]  # fmt: skip
"""70 scans are trained on; the 10 of fold 0 choose the checkpoint."""

HELD_OUT = PhantomConfig(
    n_scans=16, size_vox=SIZE, nodules_per_scan=2, folds=2, seed=2_000_000,
    shapes=PhantomShapes.lidc, scanners=PhantomScanners.varied,
)  # fmt: skip
"""Phantoms that the training has not seen, with lesions as LIDC has them.  Thresholds, calibration
and figures of ``model.json`` are theirs."""

LICENCE = "The licence of nodule_det. Trained on synthetic images only."


def main(folder: Path) -> None:
    """Make the scans, train, evaluate, and write the model into the package."""
    store, run = folder / "store", RunFolder(folder / "run")
    call("nodule_det.data", *TRAINING, f"out={store}")
    training = ["experiment=builtin", f"store={store}", f"run_dir={run.path}", "fold=0", "seed=0"]
    call("nodule_det.train", *training, "validation.max_scans=5")
    publish(folder, run)


def publish(folder: Path, run: RunFolder) -> None:
    """Evaluate the best network of a run on held-out phantoms, and write it into the package."""
    seen = scans_seen(run.checkpoint_best)
    held_out = folder / "held-out"
    write_dataset(held_out, HELD_OUT)
    predictions = folder / "predictions"
    call(
        "nodule_det.predict",
        f"checkpoint={run.checkpoint_best}",
        f"input={held_out}",
        f"out={predictions}",
    )
    job = read_job(
        predictions / "candidates.csv",
        held_out / "annotations.csv",
        held_out / "seriesuids.csv",
        held_out / "annotations_excluded.csv",
    )
    matched = match(job.cases, job.lesions, job.candidates, job.excluded)
    froc = analysis.analyse(matched)
    write_model(
        Model(
            path=BUILTIN,
            members=(run.checkpoint_best,),
            thresholds=thresholds(matched),
            calibration=fit_calibration(matched),
            figures={
                "label": f"{froc.n_lesions} lesions in {froc.n_scans} held-out phantoms",
                "pauc": froc.pauc,
                "pauc_interval": froc.pauc_interval,
                "cpm": froc.cpm,
            },
            settings=dict(word.split("=", 1) for word in TRAINING) | {"experiment": "builtin"},
            data=f"phantom, seeds {1_000_000} to {1_000_079}",
            scans=seen,
            licence=LICENCE,
        )
    )
    print(f"{BUILTIN}: pAUC {froc.pauc:.3f}, CPM {froc.cpm:.3f} on held-out phantoms")


def scans_seen(checkpoint: Path) -> ScanRecord:
    """Return the phantoms that a network has seen, so that ``predict model=builtin`` warns of them.

    Raises:
        SystemExit: If the checkpoint does not list them, or lists a held-out phantom.
    """
    seen = load_checkpoint(checkpoint).meta.scans
    if not seen.known:
        raise SystemExit(
            f"{checkpoint} does not list the scans that it was trained on: it is of an earlier "
            "version; delete its run folder and train again"
        )
    held_out = [series_uid(HELD_OUT.seed + i, HELD_OUT) for i in range(HELD_OUT.n_scans)]
    if n := seen.n_trained(held_out) + seen.n_selected(held_out):
        raise SystemExit(f"{checkpoint} has seen {n} of the held-out phantoms; train again")
    return seen


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "weights"))
