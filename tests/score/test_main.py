"""``python -m nodule_det.score`` as a user types it."""

import os
import subprocess
import sys


def test_a_model_that_is_missing_ends_in_one_line(tmp_path, three_folds):
    words = (f"model={tmp_path / 'm'}", f"store={three_folds}", "fold=0")
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det.score", *words, f"run_dir={tmp_path / 'r'}"],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"error: model={tmp_path / 'm'} is not a model folder: it has no model.json; crossval "
        "writes one to model/\n"
    )
    assert not (tmp_path / "r").exists()
