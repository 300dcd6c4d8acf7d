"""``nodule-det export`` as a user types it."""

import re
import subprocess
import sys

import numpy as np
import pytest

from nodule_det.checkpoint import Checkpoint, load_model, save_checkpoint
from nodule_det.config.export import ExportConfig, Format
from nodule_det.ensemble.folder import Model, write_model
from nodule_det.errors import ConfigError, ScanError
from nodule_det.export.__main__ import main
from nodule_det.export.formats import Exported, check, opened
from tests.predict.test_main import META, bright_finder, chest, write_scan


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "best.pt"
    save_checkpoint(path, Checkpoint(META, bright_finder().state_dict()))
    return path


def test_a_model_folder_is_written_and_computes_the_same(checkpoint, tmp_path, capsys):
    write_model(Model(path=tmp_path / "model", members=(checkpoint,)))
    out = tmp_path / "a.ts"
    config = ExportConfig(model=str(tmp_path / "model"), format=Format.torchscript, out=str(out))
    main.main(config)
    assert re.match(rf"torchscript  {out}, at most \S+ off in probability", capsys.readouterr().out)
    network = Exported([load_model(checkpoint)[0]]).eval()
    volume = np.random.default_rng(1).normal(0, 300, (24, 30, 36)).astype(np.float32)
    assert check(network, opened(Format.torchscript, out), volume) <= 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ts", "best.pt", "model"]


def test_a_written_network_is_compared_on_a_scan(checkpoint, tmp_path, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    write_scan(scans / "a.nii.gz", chest())
    words = {"checkpoint": str(checkpoint), "format": Format.torchscript}
    main.main(ExportConfig(**words, out=str(tmp_path / "a.ts"), scan=str(scans)))
    assert "off in probability" in capsys.readouterr().out
    write_scan(scans / "b.nii.gz", chest())
    out = tmp_path / "b.ts"
    with pytest.raises(ConfigError, match="holds 2 scans; use the file or folder of one"):
        main.main(ExportConfig(**words, out=str(out), scan=str(scans)))
    with pytest.raises(ScanError, match="does not exist"):
        main.main(ExportConfig(**words, out=str(out), scan=str(tmp_path / "no")))
    with pytest.raises(ConfigError, match="has no effect with format=monai_bundle"):
        ExportConfig(model="m", out="o", scan="s", format=Format.monai_bundle)
    assert not out.exists()


def test_the_builtin_model_can_be_exported(tmp_path, capsys):
    out = tmp_path / "builtin.ts"
    main.main(ExportConfig(model="builtin", format=Format.torchscript, out=str(out)))
    assert re.match(rf"torchscript  {out}, at most \S+ off in probability", capsys.readouterr().out)


def test_a_bundle_is_written_whole(checkpoint, tmp_path, capsys):
    out = tmp_path / "bundle"
    main.main(ExportConfig(checkpoint=str(checkpoint), format=Format.monai_bundle, out=str(out)))
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [
        "configs/inference.json", "configs/metadata.json", "models/member0.ts",
    ]  # fmt: skip
    assert f"--bundle_root {out}" in capsys.readouterr().out


def test_an_existing_file_and_a_missing_folder_are_refused(checkpoint, tmp_path):
    for out, words in (
        (checkpoint, "exists already"),
        (tmp_path / "no" / "a", "not exist; create"),
    ):
        with pytest.raises(ConfigError, match=words):
            main.main(ExportConfig(checkpoint=str(checkpoint), out=str(out)))


def test_an_unknown_format_is_one_line(checkpoint, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det", "export", f"checkpoint={checkpoint}", "format=tflite",
         f"out={tmp_path / 'a'}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "tflite" in done.stderr
    assert "torchscript, torch_export, onnx, monai_bundle" in done.stderr
