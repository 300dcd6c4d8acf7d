"""A MONAI bundle: ``python -m monai.bundle run`` from a scan to its candidates.

    members ──write_bundle()──▶ configs/metadata.json, configs/inference.json, models/*.ts
    inference.json ──load(), search()──▶ candidates.csv

The networks are TorchScript, from [0, 1] to logits, so any tool can load them.  Preparing a scan
and finding candidates is the code of this package, which must be installed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nodule_det import __version__
from nodule_det.candidates import find_candidates, write_candidates
from nodule_det.checkpoint import Meta
from nodule_det.config.data import StoreConfig
from nodule_det.config.train import CandidateConfig
from nodule_det.data.blocks import grown, mostly
from nodule_det.data.ingest.prepared import read_prepared
from nodule_det.data.readers.read import find_scans
from nodule_det.errors import ConfigError
from nodule_det.files import write_json
from nodule_det.inference import predict_volume
from nodule_det.model import WINDOW_HU, ReceptiveField

MONAI_VERSION = "1.6.1"


def write_bundle(
    members: Sequence[tuple[nn.Module, Meta]], candidates: CandidateConfig, out: Path
) -> None:
    """Write a bundle.

    Args:
        members: Networks in evaluation mode with their descriptions.
        candidates: How candidates are found.
        out: Folder to write; it must exist.
    """
    for name in ("configs", "models"):
        (out / name).mkdir()
    fields = [meta.receptive_field for _, meta in members]
    for n, ((network, _), field) in enumerate(zip(members, fields, strict=True)):
        edge = max(field.window_vox, field.stride_vox * max(1, 32 // field.stride_vox))
        example = torch.rand(1, 1, edge, edge, edge)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(network, (example,))  # type: ignore[no-untyped-call]
            torch.jit.save(traced, str(out / "models" / f"member{n}.ts"))
    meta = members[0][1]
    settings = {
        "spacing_mm": meta.spacing_mm,
        "margin_mm": meta.margin_mm,
        "fields": [asdict(field) for field in fields],
        "candidates": asdict(candidates),
    }
    write_json(out / "configs" / "metadata.json", _metadata(meta, fields))
    write_json(out / "configs" / "inference.json", _inference(settings))


def _inference(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "imports": ["$import nodule_det.export.bundle as bundle"],
        "bundle_root": ".",
        "input": "scans",
        "output": "candidates.csv",
        "device": "cpu",
        "settings": json.dumps(settings),
        "networks": "$bundle.load(@bundle_root + '/models', @device)",
        "run": ["$bundle.search(@networks, @settings, @input, @output, @device)"],
    }


def _metadata(meta: Meta, fields: Sequence[ReceptiveField]) -> dict[str, Any]:
    shape = ["*", "*", "*"]
    data = {"type": "image", "modality": "CT", "num_channels": 1, "spatial_shape": shape}
    low, high = WINDOW_HU
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/"
        "0.8.1/meta_schema_20240725.json",
        "version": __version__,
        "changelog": {__version__: "exported by nodule_det"},
        "monai_version": MONAI_VERSION,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"nodule_det": __version__},
        "name": "Lung nodule candidates",
        "task": "Lung nodule detection in chest CT",
        "description": f"Candidates at {meta.spacing_mm:g} mm, trained with nodule_det. Sizes must "
        f"be multiples of {max(f.stride_vox for f in fields)} voxels.",
        "authors": "nodule_det",
        "copyright": "see the licence of the model",
        "intended_use": "research only; not a medical device",
        "network_data_format": {
            "inputs": {
                "image": {**data, "format": "hounsfield", "dtype": "float32",
                          "value_range": [0, 1], "is_patch_data": True,
                          "channel_def": {"0": f"HU, {low:g} to {high:g} mapped to 0 to 1"}}
            },
            "outputs": {
                "pred": {**data, "format": "probability", "dtype": "float32", "value_range": [],
                         "is_patch_data": True, "channel_def": {"0": "logit of a lesion"}}
            },
        },
    }  # fmt: skip


def load(folder: str, device: str) -> list[nn.Module]:
    """Load the networks of a bundle; called by its ``inference.json``."""
    paths = sorted(Path(folder).glob("member*.ts"))
    if not paths:
        raise ConfigError(f"{folder} holds no member*.ts; set bundle_root to the bundle's folder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [torch.jit.load(str(p), map_location=device).eval() for p in paths]  # type: ignore[no-untyped-call]


def search(
    networks: Sequence[nn.Module], settings: str, scans: str, output: str, device: str
) -> None:
    """Write the candidates of scans as CSV, in fp32; called by ``inference.json``.

    Args:
        networks: Of :func:`load`.
        settings: JSON of spacing, margin, receptive fields and candidate settings.
        scans: A scan or a folder of scans.
        output: CSV to write.
        device: Where to compute.
    """
    values = json.loads(settings)
    store = StoreConfig(spacing_mm=values["spacing_mm"], margin_mm=values["margin_mm"])
    fields = [ReceptiveField(**field) for field in values["fields"]]
    candidates = CandidateConfig(**values["candidates"])
    found = []
    for entry in find_scans(Path(scans)):
        scan = read_prepared(entry, store)
        parts = [
            predict_volume(
                network, field, scan.volume_hu, device=torch.device(device), dtype=torch.float32
            ).probability
            for network, field in zip(networks, fields, strict=True)
        ]
        mean = parts[0] if len(parts) == 1 else np.mean(parts, axis=0)
        region = grown(mostly(scan.lung), scan.grid.size_vox)
        found.append((entry.series_uid, find_candidates(mean, scan.grid, candidates, region)))
    write_candidates(Path(output), found)
