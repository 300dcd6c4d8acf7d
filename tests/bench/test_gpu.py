"""``bench/gpu.py`` works in all its parts before a GPU is ever at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "gpu.py"
PARTS = ["machine", "feed", "loop", "scan", "luna16", "shared"]


def test_the_help_says_what_each_part_measures():
    done = subprocess.run(
        [sys.executable, BENCH, "--help"], capture_output=True, text=True, timeout=120, check=True
    )
    parts = [line.split()[0] for line in done.stdout.splitlines() if line[:1].isalpha()]
    assert [name for name in parts if name in PARTS] == PARTS
    assert [f"({letter})" in done.stdout for letter in "abcdef"] == 6 * [True]


def test_every_part_runs_at_toy_sizes_on_a_cpu(tmp_path):
    done = subprocess.run(
        [sys.executable, BENCH, "--device", "cpu", "--quick", "--out", tmp_path / "gpu.json"],
        capture_output=True, text=True, timeout=400, check=True, cwd=tmp_path,
    )  # fmt: skip
    rows = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["part"] for row in rows] == PARTS
    assert [json.loads(line) for line in done.stdout.splitlines()] == rows
    assert not [row for row in rows if "error" in row or "skipped" in row]
    by_part = {row["part"]: row for row in rows}
    assert by_part["loop"]["share_of_limit"] > 0
    assert by_part["feed"]["ratio"].keys() >= {"MONAI tutorial", "MONAI fast recipe"}
    assert by_part["scan"]["ours, largest difference"] < 0.03
    assert by_part["loop"].keys() >= {
        "steps_per_s", "limit_steps_per_s", "share_of_bf16_peak",
        "share_of_limit, scans cut on the CPU",
    }  # fmt: skip
    assert 1 < by_part["scan"]["validation, voxels a scan"] < 64 * 64 * 72  # of different sizes
    assert by_part["luna16"].keys() >= {"epoch_s", "validation_s", "scans_gb"}
    assert by_part["shared"]["two_steps_per_s"] > 0
