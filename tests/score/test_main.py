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


def test_the_help_does_not_wait_for_torch():
    code = (
        "import sys; sys.argv = ['score', '--help']; import nodule_det.score.__main__ as p\n"
        "try: p.main()\n"
        "finally: assert not {'torch', 'monai', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "run_dir (scored)" in done.stdout
