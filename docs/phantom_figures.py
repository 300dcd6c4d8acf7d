"""Draw docs/phantom.png, phantom_kinds.png and phantom_shapes.png: docs/phantom_figures.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from nodule_det.config.data import PhantomConfig, PhantomScanners, PhantomShapes
from nodule_det.data.phantom.make import make_scan
from nodule_det.data.scan import Finding, Scan

HERE = Path(__file__).parent
LUNG_WINDOW = {"cmap": "gray", "vmin": -1200, "vmax": 300}
HALF_VOX, OF_EACH = 17, 4
KINDS = (
    "isolated", "juxta_pleural", "juxta_vascular", "small", "part_solid", "ground_glass",
    "spiculated", "calcified", "micronodule", "granuloma", "plaque",
)  # fmt: skip


def kind(finding: Finding) -> str:
    """Sort a finding into a column; large ones where a column is about how they look."""
    words = finding.attributes
    if finding.excluded:
        return words["kind"]
    if words["spiculation"] == "yes":
        return "spiculated"
    if words["texture"] != "solid":
        return words["texture"]
    if words["calcified"] == "yes":
        return "calcified"
    return words["attachment"] if finding.diameter_mm > 5 else "small"


def draw_kinds(scans: list[tuple[Scan, tuple[Finding, ...]]]) -> None:
    """Draw axial cut-outs, one column for each kind."""
    figure, axes = plt.subplots(OF_EACH, len(KINDS), figsize=(1.25 * len(KINDS), 5.6))
    for column, name in zip(axes.T, KINDS, strict=True):
        column[0].set_title(name.replace("_", "\n"), fontsize=8)
        shown = [(scan, f) for scan, found in scans for f in found if kind(f) == name]
        for ax in column:
            ax.axis("off")
        for ax, (scan, finding) in zip(column, shown, strict=False):
            draw_cutout(ax, scan, finding)
    figure.tight_layout(pad=0.2)
    figure.savefig(HERE / "phantom_kinds.png", dpi=80)


def draw_cutout(ax: Any, scan: Scan, finding: Finding, half_mm: float | None = None) -> None:
    """Draw the slice through a finding's centre."""
    half = HALF_VOX if half_mm is None else round(half_mm / scan.grid.spacing_mm[2])
    z, y, x = np.rint(scan.grid.to_voxel(finding.center_mm)).astype(int)
    padded = np.pad(scan.volume_hu[z], half, constant_values=-1000)
    ax.imshow(padded[y : y + 2 * half + 1, x : x + 2 * half + 1], **LUNG_WINDOW)
    ax.text(1, 33, f"{finding.diameter_mm:.0f} mm", color="w", fontsize=7)


def draw_scans(scans: list[Scan]) -> None:
    """Draw four axial slices and a coronal one of each scan."""
    figure, axes = plt.subplots(len(scans), 5, figsize=(14, 2.9 * len(scans)))
    for row, scan in zip(axes, scans, strict=True):
        volume, spacing_mm = scan.volume_hu, scan.grid.spacing_mm
        for ax, height in zip(row, (0.25, 0.42, 0.6, 0.8), strict=False):
            ax.imshow(volume[int(height * len(volume))], **LUNG_WINDOW)
        coronal = volume[::-1, volume.shape[1] // 2 + 8]
        row[4].imshow(coronal, aspect=spacing_mm[0] / spacing_mm[2], **LUNG_WINDOW)
        for ax in row:
            ax.axis("off")
    figure.tight_layout(pad=0.2)
    figure.savefig(HERE / "phantom.png", dpi=60)


def draw_shapes(scans: list[tuple[Scan, tuple[Finding, ...]]]) -> None:
    """Draw axial cut-outs of the largest lesions, with LIDC's ratings."""
    lesions = [(scan, f) for scan, found in scans for f in found if not f.excluded]
    lesions.sort(key=lambda pair: -pair[1].diameter_mm)
    figure, axes = plt.subplots(4, 12, figsize=(15, 6.4))
    for ax, (scan, finding) in zip(axes.ravel(), lesions, strict=False):
        ax.axis("off")
        draw_cutout(ax, scan, finding, half_mm=22)
        of = finding.attributes
        title = f"L{of['lobulation']} S{of['sphericity']} M{of['margin']}"
        title += " cavity" if of["cavity"] == "yes" else ""
        ax.set_title(f"{title}\n{of['texture'].replace('_', '-')}", fontsize=7)
    figure.tight_layout(pad=0.2, h_pad=0.8)
    figure.savefig(HERE / "phantom_shapes.png", dpi=80)


if __name__ == "__main__":
    draw_scans([make_scan(seed, PhantomConfig())[0] for seed in (11, 12)])
    draw_kinds([make_scan(seed, PhantomConfig(nodules_per_scan=10)) for seed in range(40, 56)])
    fine = PhantomConfig(
        nodules_per_scan=15, size_vox=[192, 320, 320],
        shapes=PhantomShapes.even, scanners=PhantomScanners.varied,
    )  # fmt: skip
    draw_shapes([make_scan(seed, fine) for seed in range(4)])
