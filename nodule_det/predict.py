"""``python -m nodule_det.predict``: candidates of scans that nobody has annotated.

    scan ──prepare──▶ lungs, resampled ──network──▶ probability ──peaks──▶ candidates.csv
                                                                    └────▶ UID.mrk.json

A scan is prepared by the code that ingest uses, with the spacing and margin that the checkpoint
was trained on, and searched by the code that validation uses.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_det.cli import command, print_error
from nodule_det.config.predict import PredictConfig
from nodule_det.errors import ConfigError, NoduleDetError

if TYPE_CHECKING:  # torch and MONAI take seconds: they wait until the settings are read
    from nodule_det.candidates import ScanCandidates
    from nodule_det.data.readers import ScanPath

Predict = Callable[["ScanPath"], "ScanCandidates"]


@command("predict", PredictConfig)
def main(config: PredictConfig) -> int:
    """Write the candidates of all scans; says at the end which failed, and leaves with 1 then."""
    from nodule_det.candidates import write_candidates
    from nodule_det.data.readers import scan_paths
    from nodule_det.markups import SUFFIX, write_markups

    out = Path(config.out)
    scans = scan_paths(Path(config.input))
    predict = predictor(config)
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
    found: list[tuple[str, ScanCandidates]] = []
    failures: list[str] = []
    for scan in scans:
        started_s = time.monotonic()
        try:
            candidates = predict(scan)
        except NoduleDetError as error:
            failures.append(f"{scan.series_uid}: {error}")
            continue
        with _writing(out):
            name = file_stem(scan.series_uid) + SUFFIX
            write_markups(out / name, candidates, config.markups_max)
        found.append((scan.series_uid, candidates))
        print(in_one_line(scan.series_uid, candidates, time.monotonic() - started_s), flush=True)
    with _writing(out):
        write_candidates(out / "candidates.csv", found)
    print(f"{len(found)} of {len(scans)} scans  {out / 'candidates.csv'}")
    for failure in failures:
        print_error(failure)
    return 1 if failures else 0


def predictor(config: PredictConfig) -> Predict:
    """Load the checkpoint; gives a function from a scan on disk to its candidates.

    Raises:
        CheckpointError: If the checkpoint is missing, damaged or of another architecture.
        ConfigError: If the device is not there.
    """
    from nodule_det.candidates import find_candidates
    from nodule_det.checkpoint import load_model
    from nodule_det.config.data import StoreConfig
    from nodule_det.data.prepare import prepare
    from nodule_det.data.readers import read_scan
    from nodule_det.data.store import grown, mostly
    from nodule_det.inference import predict_volume
    from nodule_det.model import choose_device, choose_precision, fuse

    device = choose_device(config.device)
    dtype = choose_precision(config.precision, device)
    model, meta = load_model(Path(config.checkpoint))
    model = fuse(model).to(device)
    settings = StoreConfig(spacing_mm=meta.spacing_mm, margin_mm=meta.margin_mm)

    def predict(path: ScanPath) -> ScanCandidates:
        prepared = prepare(read_scan(path.path, path.series_uid), settings)
        region = predict_volume(model, meta.model, prepared.volume_hu, device=device, dtype=dtype)
        search = grown(mostly(prepared.lung), prepared.grid.size_vox)
        return find_candidates(region.probability, prepared.grid, config.candidates, search)

    return predict


def file_stem(series_uid: str) -> str:
    """Turn a series' key into a file name: a DICOM tag may hold anything, ``../`` included.

    Example:
        >>> file_stem("1.2.840/../x")
        '1.2.840_.._x'
    """
    return re.sub(r"[^\w.\- ]", "_", series_uid)


def in_one_line(series_uid: str, found: ScanCandidates, seconds: float) -> str:
    """Say what was found in a scan."""
    best = f", best {found.score[0]:.3f}" if len(found) else ""
    dropped = ""
    if found.n_dropped:
        dropped = f" ({found.n_dropped} more left out by candidates.max_per_scan)"
    return f"{series_uid}  {len(found)} candidates{best}{dropped}  {seconds:.1f} s"


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"out={out} cannot be written ({error.strerror}); give a folder with room that you "
            "may write to"
        ) from error


if __name__ == "__main__":
    main()
