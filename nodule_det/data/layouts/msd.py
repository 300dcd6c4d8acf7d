"""Medical Segmentation Decathlon (Task06_Lung) and nnU-Net v2: images and label masks.

    dataset.json ──training──▶ (imagesTr/X.nii.gz, labelsTr/X.nii.gz) ──▶ one finding per component

nnU-Net v2 names its images ``imagesTr/X_0000.nii.gz`` and does not list them: each label is a case.

A lesion is a connected component of its label (voxels that share a face, an edge or a corner).
Its centre is the mean of its voxels.  Its diameter is that of a ball of the same volume, the
measure that LUNA16's diameters follow and that a frayed border hardly changes.  Images of the data
set's own test set (``imagesTs``) with labels (``labelsTs``) are the test set of the store; those
without are left out, and :func:`test_set_note` says so.

References:
    Antonelli et al., Nature Communications 13:4128 (2022); nnU-Net v2's
    documentation/dataset_format.md.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodule_det.config.data import DataConfig
from nodule_det.data.layouts.annotations import refuse_missing
from nodule_det.data.readers.dicom_header import patient_key
from nodule_det.data.readers.read import (
    clean_name,
    image_stem,
    is_image_file,
    join_twins,
    read_grid,
    read_mask,
)
from nodule_det.data.scan import Finding, ScanEntry
from nodule_det.errors import GeometryError, LayoutError, ScanError
from nodule_det.geometry import Grid
from nodule_det.progress import Progress, counted, of_total
from nodule_det.untrusted import printable, read_bytes

INDEX, TEST_IMAGES, TEST_LABELS = "dataset.json", "imagesTs", "labelsTs"
CHANNEL = "_0000"
"""How nnU-Net ends the name of an image's only channel."""
MAX_INDEX_BYTES = 64 * 2**20


def list_msd(root: Path, config: DataConfig) -> list[ScanEntry]:
    """List the labelled images; reads every label mask, about one second each.

    Raises:
        LayoutError: If ``dataset.json`` is damaged, not of a CT, or names a missing file.
        ScanError: If a label cannot be read.
        GeometryError: If a label does not match the grid of its image.
    """
    pairs = _pairs(root)
    if not config.partial:
        refuse_missing(root, [str(i) for i, _ in pairs], [str(i) for i, _ in pairs if i.is_file()])
    there = [(image, label) for image, label in pairs if image.is_file()]
    if not there:
        raise LayoutError(f"{root} has none of the images that its {INDEX} names")
    tests = [(image, label) for image, label in _test_images(root) if label is not None]
    entries = []
    with Progress("label masks", len(there) + len(tests)) as progress:
        for image, label in (*there, *tests):
            entries.append(replace(_entry(image, label), test=(image, label) in tests))
            progress.advance()
    return join_twins(entries)


def _test_images(root: Path) -> list[tuple[Path, Path | None]]:
    """List the images of the data set's own test set, each with its label if it has one."""
    try:
        images = sorted(filter(is_image_file, (root / TEST_IMAGES).iterdir()))
    except OSError:
        return []
    labels = []
    for image in images:
        stem = image_stem(image)
        ending = image.name[len(stem) :]
        names = (f"{stem}{ending}", f"{stem.removesuffix(CHANNEL)}{ending}")
        found = (root / TEST_LABELS / name for name in names)
        labels.append(next((label for label in found if label.is_file()), None))
    return list(zip(images, labels, strict=True))


def test_set_note(root: Path) -> str | None:
    """Return a note on a test set of the data set that is not stored; None if it has none."""
    if not (root / INDEX).is_file():
        return None
    images = _test_images(root)
    n = sum(label is None for _, label in images)
    if not n:
        return None
    what = of_total(n, len(images), "scan") if n < len(images) else counted(n, "scan")
    hold_out = (
        ""
        if n < len(images)
        else ", and store.test_fraction or store.test_scans holds out a test set of the labelled "
        "scans"
    )
    return (
        f"{what} in {TEST_IMAGES}, the data set's own test set, have no label in {TEST_LABELS} and "
        f"are not stored; predict takes that folder as input={hold_out}"
    )


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    path = root / INDEX
    try:
        index = json.loads(read_bytes(path, MAX_INDEX_BYTES).decode("utf-8-sig"))
        channels = index.get("modality", index.get("channel_names", {"0": "CT"}))
        modality = "".join(channels.values())
        if "training" in index:
            pairs = [(root / case["image"], root / case["label"]) for case in index["training"]]
        else:
            pairs = _nnunet_pairs(root, index)
        outside = [
            str(p) for pair in pairs for p in pair if ".." in p.parts or root not in p.parents
        ]
        if outside:
            raise ValueError(f"{outside[0]} is not in its folder")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        LookupError,
        RecursionError,
    ) as error:
        raise LayoutError(
            f"{path} is not an index of a Decathlon task or an nnU-Net data set "
            f"({type(error).__name__}: {printable(str(error), 200)}); it needs 'training': a list "
            "of {'image', 'label'}, or 'channel_names' and 'file_ending'"
        ) from None
    if modality.upper() != "CT":
        raise LayoutError(f"{path} is of modality {modality}, expected CT (Task06_Lung)")
    return pairs


def _nnunet_pairs(root: Path, index: dict[str, Any]) -> list[tuple[Path, Path]]:
    """List the training cases of nnU-Net v2 from its own table, or from the file names."""
    ending = str(index["file_ending"])
    if "dataset" in index:
        cases = index["dataset"].values()
        return [(root / case["images"][0], root / case["label"]) for case in cases]
    labels = sorted((root / "labelsTr").glob(f"[!.]*{ending}"))
    names = [label.name.removesuffix(ending) for label in labels]
    if int(index.get("numTraining", len(names))) != len(names):
        raise ValueError(
            f"numTraining={index['numTraining']}, labelsTr has {counted(len(names), 'file')}"
        )
    images = [root / "imagesTr" / f"{name}{CHANNEL}{ending}" for name in names]
    return list(zip(images, labels, strict=True))


def _entry(image: Path, label: Path) -> ScanEntry:
    """Return an image with the components of its label; a damaged label fails only this image."""
    uid = clean_name(image_stem(image).removesuffix(CHANNEL))
    entry = ScanEntry(uid, image, patient_key(uid), lesion_mask=label)
    if not label.is_file():
        return replace(
            entry, problem=f"{image} needs its label {label}, which is missing; copy both"
        )
    try:
        grid = read_grid(image)
        found = tuple(components(read_mask(label, like=grid), grid))
    except (ScanError, GeometryError) as error:
        return replace(entry, problem=str(error))
    except (OSError, MemoryError) as error:
        return replace(entry, problem=f"{label} cannot be read ({error})")
    return replace(entry, findings=found)


def components(labels: NDArray[np.uint8], grid: Grid) -> list[Finding]:
    """Turn each connected component of a label mask into a finding.

    Args:
        labels: (z, y, x), nonzero in lesions.
        grid: Grid of the mask.

    Returns:
        Lesions in the order of their first voxels.
    """
    from scipy import ndimage

    box = _bounding_box(labels)
    if box is None:
        return []
    parts, count = ndimage.label(labels[box] > 0, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    centers = ndimage.center_of_mass(parts > 0, parts, range(1, count + 1))
    corner = np.array([s.start for s in box])
    voxel_mm3 = float(np.prod(grid.spacing_mm))
    return [
        _finding(grid.to_world(corner + np.array(c)), float(n) * voxel_mm3, i)
        for i, (c, n) in enumerate(zip(centers, sizes, strict=True), 1)
    ]


def _bounding_box(labels: NDArray[np.uint8]) -> tuple[slice, slice, slice] | None:
    """Return the bounding box of the lesions, because labelling a whole scan is slow."""
    slices = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        (hit,) = np.nonzero(labels.any(axis=others))
        if not hit.size:
            return None
        slices.append(slice(int(hit[0]), int(hit[-1]) + 1))
    z, y, x = slices
    return z, y, x


def _finding(center: Any, volume_mm3: float, number: int) -> Finding:
    x, y, z = (float(v) for v in center)
    diameter_mm = (6 * volume_mm3 / np.pi) ** (1 / 3)
    return Finding((x, y, z), float(diameter_mm), attributes={"component": str(number)})
