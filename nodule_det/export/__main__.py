"""``python -m nodule_det.export``: a trained network as a file that other tools run.

checkpoint or model folder ──▶ Exported ──▶ .ts, .pt2, .onnx or a MONAI bundle
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_det.cli import command
from nodule_det.config.export import ExportConfig, Format
from nodule_det.config.predict import PredictConfig
from nodule_det.config.train import CandidateConfig
from nodule_det.errors import ConfigError
from nodule_det.progress import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from nodule_det.checkpoint import Meta
    from nodule_det.data.scan import HuVolume
    from nodule_det.ensemble.calibration import Calibration


@command("export", ExportConfig)
def main(config: ExportConfig) -> None:
    """Write the network, check it, and print where it is."""
    from nodule_det.checkpoint import load_model
    from nodule_det.ensemble.folder import named_model
    from nodule_det.model import finds_candidates

    out = Path(config.out)
    if out.exists():
        raise ConfigError(f"out={config.out} exists already; delete it, or use another out=")
    if not out.parent.is_dir():
        raise ConfigError(f"out={config.out} is in a folder that does not exist; create it first")
    named = named_model(config.model, config.checkpoints)
    members = [load_model(path, config.factory) for path in named.members]
    if any(finds_candidates(model) for model, _ in members):
        raise ConfigError(
            f"factory={config.factory} finds candidates itself; only networks of logits can be "
            "exported: use predict"
        )
    if config.format is Format.monai_bundle:
        _write_folder(members, candidates_of(named.calibration), out)
        print(
            f"bundle   {out}; to run it: python -m monai.bundle run --bundle_root {out} "
            f"--config_file {out}/configs/inference.json --input SCANS --output candidates.csv"
        )
        return
    off = _write_file(members, config, out)
    print(f"{config.format.value}  {out}, at most {off:.1e} off in probability")


def candidates_of(calibration: Calibration | None) -> CandidateConfig:
    """Return the settings of candidates that ``predict`` uses by default."""
    candidates = CandidateConfig()
    if calibration is None:
        return candidates
    lowest = calibration.lowest_score(PredictConfig.max_fp_per_scan)
    return replace(candidates, threshold=max(candidates.threshold, lowest))


def _write_folder(
    members: Sequence[tuple[nn.Module, Meta]], candidates: CandidateConfig, out: Path
) -> None:
    from nodule_det.export.bundle import write_bundle

    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write_bundle(members, candidates, temporary)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_file(
    members: Sequence[tuple[nn.Module, Meta]], config: ExportConfig, out: Path
) -> float:
    from nodule_det.export.formats import Exported, check, check_volume, middle, opened, write
    from nodule_det.files import replacing

    network = Exported([model for model, _ in members]).eval().requires_grad_(False)
    fields = [meta.receptive_field for _, meta in members]
    volumes = [check_volume(fields)]
    if config.scan:
        volumes.append(middle(_prepared(config.scan, members[0][1]), fields))
    kind = config.format
    with replacing(out) as temporary:
        # torch insists on the ending of each format
        named = temporary.with_name(f"{temporary.name}{ENDINGS[kind]}")
        try:
            write(network, fields, kind, named)
            run = opened(kind, named)
            off = max(check(network, run, volume) for volume in volumes)
            named.rename(temporary)
        finally:
            named.unlink(missing_ok=True)
    return off


def _prepared(scan: str, meta: Meta) -> HuVolume:
    from nodule_det.config.data import StoreConfig
    from nodule_det.data.ingest.prepared import read_prepared
    from nodule_det.data.readers.read import find_scans

    found = find_scans(Path(scan))
    if len(found) > 1:
        raise ConfigError(
            f"scan={scan} holds {counted(len(found), 'scan')}; use the file or folder of one"
        )
    settings = StoreConfig(spacing_mm=meta.spacing_mm, margin_mm=meta.margin_mm)
    return read_prepared(found[0], settings).volume_hu


ENDINGS = {Format.torchscript: ".ts", Format.torch_export: ".pt2", Format.onnx: ".onnx"}


if __name__ == "__main__":
    main()
