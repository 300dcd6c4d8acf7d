"""``bench/train.py`` works."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "train.py"


def test_both_loops_run_at_a_toy_size():
    words = ["--sizes", "32", "--filters", "2", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, BENCH, *words], capture_output=True, text=True, timeout=200, check=True
    )
    (row,) = json.loads(done.stdout)["results"]
    assert (row["size_vox"], row["filters"]) == (32, 2)
    assert row["ours, cpu_s a step"] > 0
    assert row["ratio"] > 0
