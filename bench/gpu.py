"""Speed of training and prediction on this GPU, compared with the limits of its arithmetic.

    python bench/gpu.py                         # under 8 minutes, needs no argument
    python bench/gpu.py --device cpu --quick    # every part at toy sizes, in a minute

Each part prints one JSON line when it is done, so that an interrupted run still has results.  A
part that fails prints its error, and the next one follows.

machine     device, driver, torch, cuDNN; peak of a matrix product in bf16 (fp16 on GPUs without
            bf16) and of a copy
feed        (a) patches/s of our feed alone, and of MONAI's and TorchIO's usual set-ups
loop        (b) steps/s of the real training loop (``train.loop.fit``), beside the same step on one
            resident batch
            (c) and the share of the matrix product's peak that this is; with scans cut on the CPU
            as well
scan        (d) seconds of a whole scan beside MONAI's sliding windows with the same network, and
            the largest difference of a probability from one pass over the whole scan; of a
            validation whose scans all have different sizes
luna16      (e) an epoch and a validation of a LUNA16-size training, from the parts above
shared      (f) two trainings on one device, beside one

Of the time (--seconds), (a) may begin other feeds until 35 %, and (b) further networks until 65 %.
What follows is expected to take a minute and a half on a GPU.  A measurement ends after 1 to 6
seconds, as soon as a call returns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from feed import FileScan, make_scans, monai
from torch.utils.flop_counter import FlopCounterMode

from nodule_det import __version__
from nodule_det.arrays import BoolArray
from nodule_det.checkpoint import Meta
from nodule_det.config.train import (
    AugmentConfig,
    Device,
    LimitConfig,
    ModelConfig,
    OptimConfig,
    PatchConfig,
    Precision,
    TrainConfig,
)
from nodule_det.data.feed.batch import Batch
from nodule_det.data.feed.device_cutter import DeviceCutter
from nodule_det.data.feed.feed import Feed, cutting_threads, feed_budget_bytes, make_feed
from nodule_det.data.scan import HuVolume
from nodule_det.errors import ConfigError
from nodule_det.inference import probability_on_device
from nodule_det.model import (
    build_model,
    channels_last,
    choose_device,
    choose_precision,
    fuse,
    keep_freed_pages,
    normalise,
    receptive_field,
    set_up_backends,
)
from nodule_det.runs import RunFolder
from nodule_det.train.detector import Segmenter
from nodule_det.train.distributed import World
from nodule_det.train.loop import LOG_EVERY_STEPS, fit
from nodule_det.train.optimizer import make_optimizer
from nodule_det.train.step import Stepper
from nodule_det.train.trainer import Trainer
from nodule_det.train.validate import Searcher

LUNA16 = {"training": 843, "validation": 105}
SCAN_VOX = (270, 180, 260)
"""The box of the lungs of an adult at 1 mm: 25 MB, as LUNA16 has on average."""
BATCH = 8
FEEDS_UNTIL, LOOPS_UNTIL = 0.35, 0.65
"""Shares of ``--seconds`` after which other feeds and further networks are skipped, so that every
part has its turn."""


class Bench:
    """What all parts share: options, device, and a folder with scans of noise."""

    def __init__(self, options: argparse.Namespace, folder: Path, n_scans: int = 16) -> None:
        self.quick, self.seconds, self.out = options.quick, options.seconds, options.out
        self.device = choose_device(Device(options.device))
        self.dtype = choose_precision(Precision.auto, self.device)
        self.began_s = time.perf_counter()
        self.scan_vox = (64, 64, 72) if self.quick else SCAN_VOX
        self.scans = make_scans(folder, 2 if self.quick else n_scans, self.scan_vox)
        self.results: list[dict[str, Any]] = []
        self.failed = False

    def is_late(self, share: float) -> bool:
        """Return whether more than a share of the time is used; what is left is then skipped."""
        return time.perf_counter() - self.began_s > share * self.seconds

    def say(self, **row: Any) -> None:
        """Print a result, and write all of them."""
        self.results.append({k: _short(v) for k, v in row.items()})
        print(json.dumps(self.results[-1]), flush=True)
        if self.out:
            Path(self.out).write_text(json.dumps(self.results, indent=1) + "\n")

    def found(self, part: str, **which: Any) -> dict[str, Any] | None:
        """Return an earlier result."""
        for row in self.results:
            if (
                row["part"] == part
                and "skipped" not in row
                and all(row.get(k) == v for k, v in which.items())
            ):
                return row
        return None

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, call: Callable[[], object], seconds: float, warm_up: int = 3) -> float:
        """Count calls a second, over at least ``seconds``."""
        for _ in range(1 if self.quick else warm_up):
            call()
        self.wait()
        start, n = time.perf_counter(), 0
        end = start + (0.05 if self.quick else seconds)
        while time.perf_counter() < end:
            for _ in range(1 if self.quick else LOG_EVERY_STEPS):
                call()
                n += 1
                if time.perf_counter() > end:  # a slow feed: 20 calls may take minutes
                    break
            self.wait()
        return n / (time.perf_counter() - start)


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def machine(bench: Bench) -> None:
    """Name the device and measure its peaks."""
    row: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "precision": str(bench.dtype).removeprefix("torch."),
        "processor": platform.processor() or platform.machine(),
    }
    if bench.device.type == "cuda":
        row["gpu"] = torch.cuda.get_device_name(bench.device)
        row["memory_gb"] = torch.cuda.get_device_properties(bench.device).total_memory / 1e9
        with suppress(OSError, subprocess.SubprocessError):
            words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
            row["driver"] = done.stdout.split("\n")[0]
    n = 256 if bench.quick else 8192
    if bench.device.type == "cpu" and not bench.quick:
        n = 1024
    name = "fp16" if bench.dtype is torch.float16 else "bf16"
    dtype = torch.float16 if name == "fp16" else torch.bfloat16
    a, b = (torch.randn(n, n, device=bench.device, dtype=dtype) for _ in range(2))
    row["peak"] = name
    row[f"matmul_{name}_tflops"] = 2 * n**3 * bench.rate(lambda: a @ b, 1.0) / 1e12
    x = torch.empty(n * n * 16, dtype=torch.int8, device=bench.device)
    y = torch.empty_like(x)
    row["copy_gb_s"] = 2 * len(x) * bench.rate(lambda: y.copy_(x), 0.5) / 1e9
    bench.say(part="machine", **row)


def config_of(filters: int, size_vox: int) -> TrainConfig:
    """Return the settings of a training with the default network but for its filters."""
    return TrainConfig(
        patches=PatchConfig(size_vox=size_vox, per_epoch=200_000),
        model=ModelConfig(filters=filters),
        optim=OptimConfig(batch_size=BATCH),
        augment=AugmentConfig(copies=1),
        limits=LimitConfig(epochs=1000),
    )


def feed_of(bench: Bench, config: TrainConfig, memory_bytes: int | None = None) -> Feed:
    """Return the feed of a run, or one whose scans may take so much memory on the device."""
    if memory_bytes is None:
        return make_feed(bench.scans, config, bench.device)
    threads = cutting_threads(0)
    size_vox = config.patches.size_vox
    cutter = DeviceCutter(bench.scans, size_vox, bench.device, memory_bytes, threads=threads)
    return Feed(bench.scans, config, cutter)


def endless(feed: Feed) -> Iterator[Batch]:
    """Return the batches of all epochs."""
    return itertools.chain.from_iterable(map(feed.batches, itertools.count()))


def feeds(bench: Bench) -> None:
    """Measure feeds alone."""
    for size_vox in (32,) if bench.quick else (64, 32):
        config = config_of(8, size_vox)
        ways: dict[str, Callable[[], Callable[[], object]]] = {
            "ours": lambda c=config: endless(feed_of(bench, c)).__next__,
            "ours, gathered on the device": lambda c=config: (
                endless(feed_of(bench, c, 1 << 50)).__next__
            ),
            "ours, all cut on the CPU": lambda c=config: endless(feed_of(bench, c, 0)).__next__,
            "MONAI tutorial": lambda s=size_vox: to(
                bench, monai(bench.scans, s, tuned=False, workers=0 if bench.quick else 4)
            ),
            "MONAI fast recipe": lambda s=size_vox: monai_fast(bench, s),
            "TorchIO queue": lambda s=size_vox: torchio_queue(bench, s),
        }
        rates: dict[str, Any] = {}
        for name, make in ways.items():
            if bench.is_late(FEEDS_UNTIL) and not name.startswith("ours"):
                rates[name] = "no time left"
                continue
            try:
                rates[name] = BATCH * bench.rate(make(), 4.0, warm_up=2)
            except ImportError as error:
                rates[name] = f"not installed: {error.name}"
            except Exception as error:  # the others may still say something
                rates[name] = f"failed: {type(error).__name__}: {error}"[:300]
                bench.failed = True
        ours = rates["ours"]
        bench.say(
            part="feed",
            size_vox=size_vox,
            **{f"{name}, patches/s": _short(rate) for name, rate in rates.items()},
            ratio={
                name: _short(ours / rate)
                for name, rate in rates.items()
                if isinstance(rate, float)
                and isinstance(ours, float)
                and not name.startswith("ours")
            },
        )


def to(bench: Bench, make: Callable[[], Any]) -> Callable[[], object]:
    """Return a function that makes a batch and copies it to the device."""

    def batch() -> object:
        made = make()
        return [made[key].to(bench.device, non_blocking=True) for key in ("image", "label")]

    return batch


def monai_fast(bench: Bench, size_vox: int) -> Callable[[], object]:
    """MONAI's fast recipe: cache and transforms on the device, batches in a thread."""
    from monai.data import CacheDataset, ThreadDataLoader, set_track_meta
    from monai.transforms import (
        Compose,
        EnsureTyped,
        FgBgToIndicesd,
        RandCropByPosNegLabeld,
        ScaleIntensityRanged,
    )

    keys, per_scan = ["image", "label"], BATCH // 2
    transform = Compose(
        [
            ScaleIntensityRanged("image", -1000, 400, 0, 1, clip=True),
            FgBgToIndicesd("label", fg_postfix="_fg", bg_postfix="_bg"),
            EnsureTyped(keys, device=bench.device, track_meta=False),
            RandCropByPosNegLabeld(
                keys, "label", 3 * (size_vox,), pos=1, neg=1, num_samples=per_scan,
                fg_indices_key="label_fg", bg_indices_key="label_bg",
            ),
        ]
    )  # fmt: skip
    data = CacheDataset(items_of(bench.scans[:8]), transform, progress=False, copy_cache=False)
    set_track_meta(False)
    loader = ThreadDataLoader(
        data, batch_size=BATCH // per_scan, num_workers=0, shuffle=True, buffer_size=2
    )
    return to(
        bench, itertools.chain.from_iterable(iter(loader) for _ in itertools.count()).__next__
    )


def torchio_queue(bench: Bench, size_vox: int) -> Callable[[], object]:
    """TorchIO's queue of patches around labels."""
    import torchio

    subjects = [
        torchio.Subject(
            image=torchio.ScalarImage(tensor=torch.from_numpy(item["image"])),
            label=torchio.LabelMap(tensor=torch.from_numpy(item["label"])),
        )
        for item in items_of(bench.scans[:8])
    ]
    sampler = torchio.LabelSampler(size_vox, "label")
    queue = torchio.Queue(torchio.SubjectsDataset(subjects), 16, 8, sampler, num_workers=0)
    loader = torch.utils.data.DataLoader(queue, batch_size=BATCH, num_workers=0)
    batches = itertools.chain.from_iterable(iter(loader) for _ in itertools.count())

    def batch() -> object:
        made = next(batches)
        return [made[key]["data"].to(bench.device) for key in ("image", "label")]

    return batch


def items_of(scans: Sequence[FileScan]) -> list[dict[str, Any]]:
    """Return the scans as MONAI and TorchIO take them: float images and label volumes."""
    return [
        {"image": scan.volume()[None].astype(np.float32), "label": scan.label_volume()[None]}
        for scan in scans
    ]


def trainer_of(
    bench: Bench, config: TrainConfig, feed: Feed, folder: Path | None = None
) -> Trainer:
    """Build what a run has; ``fit`` needs a run folder as well."""
    torch.manual_seed(0)
    model = channels_last(build_model(config.model).to(bench.device))
    return Trainer(
        config=config,
        meta=Meta(config.model, spacing_mm=1.0, margin_mm=12.0, version=__version__),
        model=model,
        optimizer=make_optimizer(model, config.optim, bench.device),
        scaler=torch.amp.GradScaler(bench.device.type, enabled=bench.dtype is torch.float16),
        feed=feed,
        validation_scans=(),
        folder=RunFolder(folder or Path()),
        world=World(),
        device=bench.device,
        dtype=bench.dtype,
    )


def stepping(trainer: Trainer, batches: Iterator[Batch]) -> Callable[[], object]:
    """Return a function that does a step of the real loop, and reads its losses as it does."""
    stepper = Stepper(trainer, trainer.model)

    def step() -> None:
        stepper(next(batches))
        trainer.state.step += 1
        if trainer.state.step % LOG_EVERY_STEPS == 0:
            stepper.read(reset=True)

    return step


def fitting(bench: Bench, config: TrainConfig, feed: Feed, seconds: float) -> float:
    """Count the steps a second of ``fit`` with everything that it does at each step."""
    began_s, began_at = math.inf, 0
    spent_s, n_steps = 0.0, 0
    warm_up = 2 if bench.quick else 2 * LOG_EVERY_STEPS
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(bench, config, feed, Path(folder))

        def must_stop(_: float) -> str | None:
            nonlocal began_s, began_at, spent_s, n_steps
            step = trainer.state.step
            if step == warm_up:
                bench.wait()
                began_s, began_at = time.perf_counter(), step
            enough = time.perf_counter() - began_s >= (0.05 if bench.quick else seconds)
            if step == began_at or not enough:
                return None
            bench.wait()
            spent_s, n_steps = time.perf_counter() - began_s, step - began_at
            return "measured"

        fit(trainer, must_stop, lambda validation: None)
    return n_steps / spent_s


def operations(trainer: Trainer, batch: Batch) -> int:
    """Count multiplications and additions of a step, forward and backward."""
    model = build_model(trainer.config.model).to(batch.image_hu.device)
    with FlopCounterMode(display=False) as counter:
        model(normalise(batch.image_hu)).sum().backward()
    return counter.get_total_flops()


def loops(bench: Bench) -> None:
    """Measure the real loop beside its limit."""
    about = bench.found("machine") or {}
    peak_name = about.get("peak")
    peak = about.get(f"matmul_{peak_name}_tflops")
    sizes = [(32, 2)] if bench.quick else [(s, f) for s in (64, 32) for f in (16, 4, 32, 8)]
    for size_vox, filters in sizes:
        if bench.is_late(LOOPS_UNTIL):
            bench.say(part="loop", size_vox=size_vox, filters=filters, skipped="no time left")
            continue
        config = config_of(filters, size_vox)
        feed = feed_of(bench, config)
        batch = feed.batch(0, 0)
        trainer = trainer_of(bench, config, feed)
        flops = operations(trainer, batch)
        seconds = 3.0
        limit = bench.rate(stepping(trainer, itertools.repeat(batch)), seconds, warm_up=8)
        real = fitting(bench, config, feed, seconds)
        row: dict[str, Any] = {
            "size_vox": size_vox,
            "filters": filters,
            "batch": BATCH,
            "steps_per_s": real,
            "limit_steps_per_s": limit,
            "share_of_limit": real / limit,
            "patches_per_s": BATCH * real,
        }
        if peak:
            row[f"share_of_{peak_name}_peak"] = flops * real / 1e12 / peak
        if filters in (2, 16):
            small = feed_of(bench, config, 0)
            cut = fitting(bench, config, small, seconds)
            row["share_of_limit, scans cut on the CPU"] = cut / limit
        bench.say(part="loop", **row)


def whole_scans(bench: Bench) -> None:
    """Measure a whole scan, ours and MONAI's, with the same network."""
    from monai.inferers import SlidingWindowInferer

    config = ModelConfig(filters=4 if bench.quick else 16)
    torch.manual_seed(0)
    model = build_model(config).to(bench.device)
    with torch.no_grad():  # batch norms that have seen noise, as after a training
        for _ in range(3):
            model(torch.rand(2, 1, 32, 32, 32, device=bench.device))
    model = channels_last(model.eval())
    fused = fuse(model)
    volume = torch.from_numpy(np.array(bench.scans[0].volume())).to(bench.device)
    window = 32 if bench.quick else 64

    def sliding(**options: Any) -> Callable[[], torch.Tensor]:
        inferer = SlidingWindowInferer(3 * (window,), 4, **options)

        def run() -> torch.Tensor:
            on = bench.dtype is not torch.float32
            with torch.inference_mode(), torch.autocast(bench.device.type, bench.dtype, enabled=on):
                return inferer(normalise(volume)[None, None], model)[0, 0].float().sigmoid()

        return run

    def ours(dtype: torch.dtype = bench.dtype) -> torch.Tensor:
        return probability_on_device(fused, receptive_field(config), volume, dtype=dtype)[1]

    ways = {
        "ours": ours,
        "MONAI, overlap .25": sliding(overlap=0.25),
        "MONAI, overlap .5, gaussian": sliding(overlap=0.5, mode="gaussian"),
    }
    with torch.backends.cudnn.flags(allow_tf32=False, enabled=True):
        truth = probability_on_device(model, receptive_field(config), volume, dtype=torch.float32)[
            1
        ]
    row: dict[str, Any] = {"size_vox": list(bench.scan_vox), "filters": config.filters}
    for name, way in ways.items():
        spent = []
        for _ in range(2 if bench.quick else 5):
            bench.wait()
            start = time.perf_counter()
            out = way()
            bench.wait()
            spent.append(time.perf_counter() - start)
        row[f"{name}, s"] = _short(median(spent[1:]))
        row[f"{name}, largest difference"] = _short(float((out - truth).abs().max()))
    row["ratio to overlap .25"] = row["MONAI, overlap .25, s"] / row["ours, s"]
    train = TrainConfig(model=config)
    detector = Segmenter(fused, train, receptive_field(config), bench.device, bench.dtype)
    searcher = Searcher(detector, bench.device)
    n = 2 if bench.quick else 6
    scans = [Trimmed(scan, 8 * i) for i, scan in enumerate(bench.scans[:n])]
    start = time.perf_counter()
    n_found = [len(found) for _, found in searcher.search(scans)]  # type: ignore[arg-type]
    row["validation, s a scan"] = (time.perf_counter() - start) / n
    row["validation, voxels a scan"] = float(np.mean([math.prod(s.grid.size_vox) for s in scans]))
    row["candidates a scan"] = median(n_found)
    bench.say(part="scan", **row)


class Trimmed:
    """A scan without its last rows: no two scans of a data set have the same size."""

    def __init__(self, scan: FileScan, rows: int) -> None:
        self._scan, self._n_rows = scan, scan.volume().shape[0] - rows
        self.grid = replace(scan.grid, size_vox=(self._n_rows, *scan.grid.size_vox[1:]))

    def volume(self) -> HuVolume:
        """Return the voxels."""
        return self._scan.volume()[: self._n_rows]

    def search_mask(self) -> BoolArray:
        """Return where candidates count."""
        return self._scan.search_mask()[: self._n_rows]


def luna16(bench: Bench) -> None:
    """Extrapolate a LUNA16-size training from what was measured."""
    loop, scan = bench.found("loop"), bench.found("scan")
    if loop is None or scan is None:
        bench.say(part="luna16", skipped="the loop or the scan was not measured")
        return
    voxels = LUNA16["training"] * math.prod(SCAN_VOX)
    patches = 10 * LUNA16["training"]
    share = math.prod(SCAN_VOX) / scan["validation, voxels a scan"]
    bench.say(
        part="luna16",
        extrapolated=True,
        filters=loop["filters"],
        size_vox=loop["size_vox"],
        scans_gb=2 * voxels / 1e9,
        feed_budget_gb=feed_budget(bench),
        patches_per_epoch=patches,
        epoch_s=patches / loop["patches_per_s"],
        validation_s=LUNA16["validation"] * scan["validation, s a scan"] * share,
    )


def feed_budget(bench: Bench) -> float | None:
    """Return what the scans may take by default, in GB."""
    if bench.device.type == "cpu":
        return None
    return feed_budget_bytes(config_of(16, 64), bench.device) / 1e9


def shared(bench: Bench) -> None:
    """Measure two trainings on one device beside one."""
    context = multiprocessing.get_context("spawn")
    rates: dict[int, float] = {}
    limit_s = 300 if bench.quick else 120  # --quick also runs in busy test environments
    for n in (1, 2):
        pipes = [context.Pipe() for _ in range(n)]
        start = context.Barrier(n)
        jobs = [
            context.Process(target=one_training, args=(bench.device.type, bench.quick, start, end))
            for _, end in pipes
        ]
        for job in jobs:
            job.start()
        end_s = time.monotonic() + limit_s
        done = [
            ours.recv() if ours.poll(max(0, end_s - time.monotonic())) else None
            for ours, _ in pipes
        ]
        for job in jobs:
            job.join(30 if None not in done else 0)
            if job.is_alive():
                job.terminate()
        if None in done:
            raise RuntimeError(f"{done.count(None)} of {n} trainings took over {limit_s} s")
        rates[n] = sum(done)
    bench.say(
        part="shared",
        filters=4,
        size_vox=32,
        one_steps_per_s=rates[1],
        two_steps_per_s=rates[2],
        gain=rates[2] / max(rates[1], 1e-9),
    )


def one_training(device: str, quick: bool, start: Any, end: Any) -> None:
    """Count the steps a second of one training, begun together with the others."""
    warnings.simplefilter("ignore")
    options = argparse.Namespace(device=device, quick=quick, seconds=60.0, out=None)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder), n_scans=2)
        set_up_backends(bench.device, bench.dtype)
        config = config_of(4, 32)
        feed = feed_of(bench, config)
        step = stepping(trainer_of(bench, config, feed), endless(feed))
        for _ in range(2 if quick else 10):
            step()
        start.wait(300)
        end.send(bench.rate(step, 6.0))


PARTS = (machine, feeds, loops, whole_scans, luna16, shared)


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 if a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", default="auto", choices=[each.value for each in Device],
        help="auto uses a GPU if there is one",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="toy sizes, for a quick check")
    parser.add_argument("--seconds", type=float, default=450.0, help="start no part after this")
    parser.add_argument("--out", default="gpu.json", help="results as JSON")
    options = parser.parse_args(words)
    try:
        choose_device(Device(options.device))
    except ConfigError as error:
        parser.error(str(error))
    warnings.simplefilter("ignore")  # MONAI's deprecation warnings
    keep_freed_pages()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        set_up_backends(bench.device, bench.dtype)
        for part in PARTS:
            if time.perf_counter() - bench.began_s > bench.seconds:
                bench.say(part=part.__name__, skipped="no time left")
                continue
            try:
                part(bench)
            except Exception as error:  # continue with the next part
                bench.say(part=part.__name__, error=f"{type(error).__name__}: {error}"[:500])
                bench.failed = True
            if bench.device.type == "cuda":
                torch.cuda.empty_cache()
    return int(bench.failed)


if __name__ == "__main__":
    sys.exit(main())
