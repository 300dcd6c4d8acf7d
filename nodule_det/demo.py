"""``python -m nodule_det.demo``: the whole chain on phantom scans, beside a blob detector.

    data source=phantom ──▶ store ──train experiment=demo──▶ run folder ──┐
                              └──blob detector──▶ candidates ──evaluate──┴──▶ one table

It runs the ordinary commands and prints each as a user would type it.  Existing results are reused:
running it again only prints the result.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from nodule_det.cli import command
from nodule_det.config.demo import DemoConfig
from nodule_det.errors import NoduleDetError
from nodule_det.files import replacing
from nodule_det.progress import counted
from nodule_det.runs import RunFolder
from nodule_det.tables import SERIES, read_table


@command("demo", DemoConfig)
def main(config: DemoConfig) -> None:
    """Run the chain and print its result."""
    folder = Path(config.dir)
    store = folder / "store"
    run = RunFolder(folder / f"run-seed{config.seed}")
    call("nodule_det.data", "source=phantom", f"out={store}", *config.data)
    call(
        "nodule_det.train",
        f"store={store}",
        f"run_dir={run.path}",
        f"seed={config.seed}",
        *config.train,
    )
    blob = folder / "baseline"
    find_blobs(blob, store, run)
    print(table(json.loads(run.froc.read_text()), json.loads((blob / "froc.json").read_text())))
    print(f"run folder  {run.path}")
    print(f"figures     {run.curve_figure}  {run.findings_figure}  {store / 'summary.png'}")


def find_blobs(out: Path, store: Path, run: RunFolder) -> None:
    """Evaluate the blob detector on a run's scans, unless that is already done."""
    made_from, wanted = out / "made_from.txt", fingerprint(store, run.scans)
    if made_from.exists() and made_from.read_text() == wanted:
        return
    made_from.unlink(missing_ok=True)
    candidates = out / "candidates.csv"
    call("nodule_det.baseline", f"store={store}", f"scans={run.scans}", f"out={candidates}")
    call(
        "nodule_det.evaluate",
        f"candidates={candidates}",
        f"annotations={run.annotations}",
        f"excluded={run.excluded}",
        f"scans={run.scans}",
        f"out={out}",
    )
    with replacing(made_from) as path:
        path.write_text(wanted)


def fingerprint(store: Path, scans: Path) -> str:
    """Return a digest of the listed scans and of their sources."""
    digest = hashlib.sha256()
    for uid in read_table(scans, (SERIES,)).text(SERIES):
        digest.update((store / "scans" / f"{uid}.json").read_bytes())
    return digest.hexdigest()


def call(module: str, *overrides: str) -> None:
    """Print a command of the package as a user would type it, and run it."""
    print(f"\n$ python -m {module} {' '.join(overrides)}", flush=True)
    done = subprocess.run([sys.executable, "-m", module, *overrides], check=False, env=os.environ)
    if done.returncode:
        raise NoduleDetError(
            f"the demo stopped: python -m {module} failed with exit code {done.returncode}; "
            "see its message above"
        )


def table(network: dict[str, Any], blob: dict[str, Any]) -> str:
    """Format the figures of both detectors as a table."""
    head = f"{'':16}{'pAUC up to 5 FP':>16}  {'95% CI':<15}{'CPM':>7}"
    rows = [_row("3D U-Net", network), _row("blob detector", blob)]
    count = f"{counted(network['n_lesions'], 'nodule')} in "
    count += counted(network["n_scans"], "held-out phantom scan")
    return "\n".join(["", count, head, *rows, ""])


def _row(name: str, froc: dict[str, Any]) -> str:
    low, high = froc["pauc_interval"]
    return f"{name:16}{froc['pauc']:>16.3f}  {f'{low:.3f} to {high:.3f}':<15}{froc['cpm']:>7.3f}"


if __name__ == "__main__":
    main()
