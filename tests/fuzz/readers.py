"""Mutated scans, masks, tables and indices: each is read right, or refused in one line.

    python -m tests.fuzz.readers [--mutations 5000] [--seed 0]

Every seed file (each format that is read, and what lies beside it) is damaged in a seeded way: bits
flipped, bytes overwritten, parts cut, doubled or swapped, numbers in text replaced.  Counted are
tracebacks (anything but the package's own errors), hangs (more than ``SLOW_S`` seconds of CPU) and
**wrong geometry**: a mutation that is accepted although the voxels or their places differ from what
an independent reader (SimpleITK, nibabel) finds in the same bytes.  Exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

from nodule_det.config.data import DataConfig, Layout
from nodule_det.data.layouts.detect import list_scans
from nodule_det.data.readers.read import find_scans, read_entry, read_mask
from nodule_det.data.scan import Scan
from nodule_det.errors import NoduleDetError
from tests.data.dicom_files import chest_series, naked, save_series
from tests.data.scan_files import UPRIGHT, noise, write_file

SLOW_S = 20.0
FAR_MM = 1e-2
NUMBERS = [
    "nan", "inf", "-inf", "1e999", "-1", "0", "1e-9", "99999999999", "1,5", "x", "", "1" * 400,
    "[" * 50, "../x", "-0.0", "2", "7.25",
]  # fmt: skip
HEADER_BYTES = 700
"""Half of the mutations go to where headers are."""


@dataclass(frozen=True)
class Seed:
    """Files to damage, how to read them, and what else says where their voxels lie."""

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], list[Scan]]
    judge: Callable[[Path, Scan], str]
    """What is wrong with a scan that was accepted; empty if nothing."""


def volume() -> np.ndarray:
    return noise((5, 8, 7))


def write_image(name: str, *, compress: bool = False) -> Callable[[Path], None]:
    return lambda folder: void(write_file(folder / name, noise(), compress=compress))


def void(_: object) -> None: ...


def write_dicom(syntax: str | None = None, *, bare: bool = False) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        series = chest_series(volume())
        if syntax == RLELossless:
            for dataset in series:
                dataset.compress(RLELossless)
            save_series(series, folder)
        elif bare:
            for k, dataset in enumerate(series):
                naked(dataset, folder / f"IM{k}")
        else:
            save_series(series, folder, syntax=syntax)

    return write


def write_enhanced(folder: Path) -> None:
    from tests.data.cases.test_dicom_series import enhanced

    folder.mkdir(parents=True, exist_ok=True)
    enhanced(folder)


def write_decathlon(folder: Path) -> None:
    for i in range(2):
        write_file(folder / f"imagesTr/l{i}.nii.gz", noise())
        write_file(folder / f"labelsTr/l{i}.nii.gz", (noise() > 1300).astype(np.uint8))
    cases = [
        {"image": f"./imagesTr/l{i}.nii.gz", "label": f"./labelsTr/l{i}.nii.gz"} for i in (0, 1)
    ]
    index = {"modality": {"0": "CT"}, "labels": {"1": "cancer"}, "training": cases}
    (folder / "dataset.json").write_text(json.dumps(index))


def write_table(folder: Path) -> None:
    write_file(folder / "s.nii.gz", noise())
    x, y, z = UPRIGHT.to_world((2, 3, 4))
    rows = f"seriesuid,coordX,coordY,coordZ,diameter_mm\ns,{x},{y},{z},6\n"
    (folder / "annotations.csv").write_text(rows)
    (folder / "annotations_excluded.csv").write_text(rows.replace(",6\n", ",-1\n"))


def write_lidc(folder: Path) -> None:
    from tests.data.cases.test_listing import reading

    save_series(chest_series(volume(), series="1.5"), folder / "s")
    reading(folder, "1.5")


def read_folder(folder: Path) -> list[Scan]:
    return [read_entry(entry) for entry in find_scans(folder)]


def read_layout(layout: Layout) -> Callable[[Path], list[Scan]]:
    def read(folder: Path) -> list[Scan]:
        entries = list_scans(DataConfig(source=str(folder), layout=layout))
        return [scan for entry in entries if (scan := _or_none(entry)) is not None]

    return read


def _or_none(entry: object) -> Scan | None:
    try:
        return read_entry(entry)  # type: ignore[arg-type]
    except NoduleDetError as error:
        one_line(error)
        return None


def read_masks(folder: Path) -> list[Scan]:
    for path in sorted(folder.iterdir()):
        if path.suffix != ".zraw":
            mask = read_mask(path, UPRIGHT)
            return [Scan(path.name, mask.astype(np.int16), UPRIGHT)]
    return []


def judge_image(folder: Path, scan: Scan) -> str:
    """Compare an accepted image with SimpleITK, and NIfTI with nibabel too."""
    (path,) = (p for p in folder.iterdir() if p.suffix not in (".raw", ".zraw") and p.name != "x")
    z, y, x = (n - 1 for n in scan.grid.size_vox)
    corners = np.array([(0, 0, 0), (z, 0, 0), (0, y, 0), (0, 0, x), (z, y, x)], float)
    if path.name.endswith((".nii", ".nii.gz")):
        image = nibabel.load(path)
        unit = {1: 1000.0, 3: 0.001}.get(int(image.header["xyzt_units"]) & 7, 1.0)
        theirs = nibabel.affines.apply_affine(image.affine, corners[:, ::-1]) * [-1, -1, 1] * unit
        values = np.asanyarray(image.dataobj).squeeze().T
    else:
        image = sitk.ReadImage(str(path))
        theirs = np.array(
            [image.TransformContinuousIndexToPhysicalPoint(c[::-1].tolist()) for c in corners]
        )
        values = sitk.GetArrayFromImage(image)
    return _differences(scan, theirs, scan.grid.to_world(corners), values)


def _differences(scan: Scan, theirs: np.ndarray, ours: np.ndarray, values: np.ndarray) -> str:
    apart = float(np.abs(theirs - ours).max())
    if not apart <= FAR_MM * max(1.0, float(np.abs(ours).max()) / 1000):
        return f"corners lie {apart:g} mm apart"
    if values.shape != scan.volume_hu.shape:
        return f"shapes {values.shape} and {scan.volume_hu.shape}"
    if not np.array_equal(np.clip(np.rint(values), -1024, 3071), scan.volume_hu):
        return "other voxels"
    return ""


def judge_dicom(folder: Path, scan: Scan) -> str:
    """Compare each slice of an accepted series with what pydicom says of its place and pixels."""
    import pydicom

    if scan.notes:  # resampled: held by tests of their own
        return ""
    places: dict[int, float] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        with contextlib.suppress(Exception):
            d = pydicom.dcmread(path, force=True)
            z, y, x = scan.grid.to_voxel([float(v) for v in d.ImagePositionPatient])
            k = round(float(z))
            pixels = d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)
            if max(abs(y), abs(x)) > 0.6 or abs(z - k) > 0.15:
                return f"{path.name} lies at voxel {z:.2f}, {y:.2f}, {x:.2f}"
            same = np.array_equal(np.clip(np.rint(pixels), -1024, 3071), scan.volume_hu[k])
            padding = "PixelPaddingValue" in d
            if not same and not padding and not _more_bits(d):
                return f"{path.name} has other pixels"
            places[k] = float(z)
    return ""


def _more_bits(d: object) -> bool:
    """Return whether pydicom leaves the unused bits in, which GDCM and we take out."""
    return int(d.BitsStored) < int(d.BitsAllocated)  # type: ignore[attr-defined]


def judge_nothing(folder: Path, scan: Scan) -> str:
    return ""


SEEDS = [
    *(
        Seed(name, write_image(name, compress=compress), read_folder, judge_image)
        for name, compress in [
            ("s.mhd", False), ("s.mha", False), ("c.mhd", True), ("c.mha", True), ("s.nii", False),
            ("s.nii.gz", True), ("s.nrrd", False), ("c.nrrd", True), ("s.nhdr", False),
        ]
    ),
    Seed("dicom", write_dicom(), read_folder, judge_dicom),
    Seed("dicom big-endian", write_dicom(ExplicitVRBigEndian), read_folder, judge_dicom),
    Seed("dicom deflated", write_dicom(DeflatedExplicitVRLittleEndian), read_folder, judge_dicom),
    Seed("dicom bare", write_dicom(bare=True), read_folder, judge_dicom),
    Seed("dicom run-length", write_dicom(RLELossless), read_folder, judge_dicom),
    Seed("dicom enhanced", write_enhanced, read_folder, judge_nothing),
    Seed("mask", write_image("m.nii.gz"), read_masks, judge_nothing),
    Seed("decathlon", write_decathlon, read_layout(Layout.msd), judge_nothing),
    Seed("folder", write_table, read_layout(Layout.folder), judge_nothing),
    Seed("lidc", write_lidc, read_layout(Layout.lidc), judge_nothing),
]  # fmt: skip


def mutate(content: bytes, generator: np.random.Generator) -> bytes:
    """Damage a file in one of nine ways."""
    data = bytearray(content)
    reach = min(len(data), HEADER_BYTES) if generator.random() < 0.6 else len(data)
    at = int(generator.integers(max(reach, 1)))
    kind = int(generator.integers(9))
    if not data:
        return b"x"
    if kind == 0:
        data[at] ^= 1 << int(generator.integers(8))
    elif kind == 1:
        data[at] = int(generator.integers(256))
    elif kind == 2:
        n = int(generator.integers(1, 9))
        data[at : at + n] = bytes([int(generator.choice([0, 255, 127, 128]))]) * n
    elif kind == 3:
        del data[int(generator.integers(len(data))) :]
    elif kind == 4:
        data[at:at] = data[at : at + int(generator.integers(1, 64))]
    elif kind == 5:
        del data[at : at + int(generator.integers(1, 64))]
    elif kind == 6:
        data += bytes(data[: int(generator.integers(1, 200))])
    elif kind == 7:
        n = int(generator.integers(2, 40))
        data[at : at + n] = generator.bytes(n)
    else:
        return _other_number(bytes(data), generator)
    return bytes(data)


def _other_number(content: bytes, generator: np.random.Generator) -> bytes:
    import re

    found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:HEADER_BYTES]))
    if not found:
        return content
    match = found[int(generator.integers(len(found)))]
    word = str(generator.choice(NUMBERS)).encode()
    if generator.random() < 0.5:  # the same length, as binary formats need
        word = word[: len(match[0])].ljust(len(match[0]))
    return content[: match.start()] + word + content[match.end() :]


def one_line(error: BaseException) -> None:
    """Raise if an error is not one line, or a page long."""
    text = str(error)
    if "\n" in text or len(text) > 2000:
        raise ValueError(f"an error of {len(text)} characters in {text.count(chr(10)) + 1} lines")


def mutations(seed: Seed, n: int, rng: int) -> Iterator[tuple[str, str]]:
    """Damage the files of a seed n times; yields what each came to: kind and words."""
    generator = np.random.default_rng([rng, sum(seed.name.encode())])
    with tempfile.TemporaryDirectory() as name:
        good, bad = Path(name) / "good", Path(name) / "bad"
        good.mkdir()
        seed.write(good)
        files = sorted(p.relative_to(good) for p in good.rglob("*") if p.is_file())
        for _ in range(n):
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            target = bad / files[int(generator.integers(len(files)))]
            for _ in range(int(generator.choice([1, 1, 1, 2, 5]))):
                target.write_bytes(mutate(target.read_bytes(), generator))
            yield attempt(seed, bad)


def attempt(seed: Seed, folder: Path) -> tuple[str, str]:
    """Read a damaged folder, and say what it came to."""
    started = time.process_time()
    try:
        scans = seed.read(folder)
    except NoduleDetError as error:
        with contextlib.suppress(ValueError):
            one_line(error)
            return "refused", str(error)
        return "traceback", f"an error of {len(str(error))} characters: {str(error)[:300]}"
    except MemoryError:
        return "memory", ""
    except Exception:
        return "traceback", traceback.format_exc()
    if time.process_time() - started > SLOW_S:
        return "hang", f"{time.process_time() - started:.0f} s"
    for scan in scans:
        try:
            wrong = seed.judge(folder, scan)
        except Exception as error:  # the other reader refuses what we take
            return "only ours", f"{type(error).__name__}: {error}"[:200]
        if wrong:
            return "wrong geometry", wrong
    return "read", ""


BAD = ("traceback", "hang", "wrong geometry", "memory")


def run(n: int, rng: int) -> dict[str, Counter[str]]:
    """Damage every seed in turn, n mutations in all; prints each bad one."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    counts: dict[str, Counter[str]] = {}
    for seed in SEEDS:
        counts[seed.name] = Counter()
        for i, (kind, words) in enumerate(mutations(seed, -(-n // len(SEEDS)), rng)):
            counts[seed.name][kind] += 1
            if kind in BAD:
                print(f"{seed.name} mutation {i}: {kind}: {words}", flush=True)
    return counts


def main() -> int:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutations", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts = run(args.mutations, args.seed)
    total: Counter[str] = sum(counts.values(), Counter())
    for name, count in counts.items():
        print(f"{name:18} " + "  ".join(f"{k} {v}" for k, v in sorted(count.items())))
    print(f"{sum(total.values())} mutations: " + ", ".join(f"{total[k]} {k}" for k in BAD))
    return int(any(total[kind] for kind in BAD))


if __name__ == "__main__":
    sys.exit(main())
