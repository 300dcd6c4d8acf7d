"""Provenance of a run: versions, commit and machine, but nothing about a person."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nodule_det import __version__

PACKAGES = ("torch", "monai", "numpy", "scipy", "SimpleITK", "nibabel", "hydra-core")


def environment(device: torch.device, dtype: torch.dtype, world_size: int) -> dict[str, Any]:
    """Describe the software and hardware of a run."""
    about: dict[str, Any] = {
        "nodule_det": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "processes": world_size,
    }
    if device.type == "cuda":
        about["cuda"] = torch.version.cuda
        about["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        about["compute_capability"] = list(torch.cuda.get_device_capability(device))
        about["gpu_memory_bytes"] = torch.cuda.get_device_properties(device).total_memory
    return about


def command_line() -> str:
    """Return the command line ready to paste, with ``python -m`` restored."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return shlex.join(["python", "-m", f"nodule_det.{program.parent.name}", *sys.argv[1:]])
    return shlex.join([*program.name.split(), *sys.argv[1:]])  # nodule-det train


def commit() -> str | None:
    """Return the commit of the checkout that this package runs from, with ``+`` if it has changes.

    None if the package is not in a checkout.
    """
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    name = git("rev-parse", "HEAD")
    if name is None:
        return None
    changed = git("status", "--porcelain", "--untracked-files=no", "--", str(here.parent))
    return name + ("+" if changed else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    for line in info.read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
