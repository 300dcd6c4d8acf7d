"""Nothing that identifies a patient is in what an anonymised store and its commands write."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from nodule_det.data.store import open_store
from tests.data.chests import GRID, HEADER, chest_hu, lesion_row
from tests.data.scan_files import write_series

TAGS = {
    "t0008_0012": "19110107", "t0008_0020": "19110203", "t0008_0021": "19110304",
    "t0008_0022": "19110405", "t0008_0023": "19110506", "t0008_0030": "191157",
    "t0008_0050": "ACCESSION77", "t0008_0070": "MAKERQX", "t0008_0080": "StElsewhere",
    "t0008_0081": "Elmstreet9", "t0008_0090": "DrReferrer", "t0008_1010": "STATIONQX",
    "t0008_1030": "StudyOfGrandpa", "t0008_103e": "SeriesOfGrandpa", "t0008_1040": "WardOmega",
    "t0008_1048": "DrPhysician", "t0008_1050": "DrPerformer", "t0008_1060": "DrReader",
    "t0008_1070": "OperatorZed", "t0008_1080": "DiagnosisAdm", "t0010_0010": "Quux^Zacharias",
    "t0010_0020": "HOSP4711001", "t0010_0021": "IssuerKappa", "t0010_0030": "19231224",
    "t0010_0040": "O", "t0010_1000": "OtherId815", "t0010_1001": "Othername^Z",
    "t0010_1005": "Birthname^Z", "t0010_1010": "087Y", "t0010_1040": "Patientstreet5",
    "t0010_1060": "Mother^Maiden", "t0010_2154": "555-0199", "t0010_2160": "EthnicQ",
    "t0010_2180": "OccupationQ", "t0010_21b0": "HistoryQ", "t0010_4000": "CommentQ",
    "t0018_1000": "SERIALNO99", "t0018_1030": "ProtocolQ", "t0020_0010": "STUDYID55",
    "t0020_4000": "ImageCommentQ", "t0032_1032": "DrRequester", "t0032_1060": "ProcedureQ",
    "t0040_0254": "StepQ", "t0040_a730": None,
}  # fmt: skip
STUDY_UID, SERIES_UID = "1.2.840.19231224.1", "1.2.840.19231224.77{}"
PROGRAM = """
import json, sys
from pathlib import Path
given = dict(word.split("=", 1) for word in sys.argv[1:])
result = {"status": "complete", "loss": float(given["x"])}
Path(given["run_dir"], "result.json").write_text(json.dumps(result))
"""
SHORT = {"O"}
"""Values that are too short to be looked for."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Write two patients full of names, and return the data set and all that identifies them."""
    root = tmp_path_factory.mktemp("Zacharias_Quux") / "Ward Omega 3"
    names = [value for value in TAGS.values() if value and value not in SHORT]
    rows = []
    for number in range(4):
        uid = SERIES_UID.format(number)
        tags = TAGS | {"t0020_000e": uid, "t0020_000d": STUDY_UID}
        tags["t0010_0020"] = f"HOSP471100{number}"
        folder = root / "scans" / f"Quux_Zacharias_{number}" / "DICOMDIRQ"
        write_series(folder, chest_hu(number), GRID, **tags)
        rows.append(f"{lesion_row(uid)},solid,Mr Quux coughs,RadiologistQ")
        names += [uid, f"HOSP471100{number}", f"Quux_Zacharias_{number}"]
    table = root / "annotations.csv"
    table.write_text("\n".join([f"{HEADER},texture,remark,reader", *rows]) + "\n")
    names += [STUDY_UID, "Zacharias", "Quux", "Ward Omega", "coughs", "RadiologistQ", "DICOMDIRQ"]
    return root, sorted(set(names))


def run(cwd, *words):
    """Run a command; return all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, capture_output=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout + done.stderr


def test_no_identifier_is_in_any_byte_of_what_the_commands_write(planted, tmp_path):
    root, names = planted
    assert len(names) >= 40
    said = run(
        tmp_path, "nodule_det.data", f"source={root / 'scans'}", "out=store", "layout=folder",
        f"annotations={root / 'annotations.csv'}", "anonymise=true", "store.spacing_mm=2.5",
        "store.folds=2", "workers=1",
    )  # fmt: skip
    said += run(tmp_path, "nodule_det.data.verify", "store=store")
    said += run(tmp_path, "nodule_det.train", "store=store", "fast=true", "run_dir=run",
                "device=cpu")  # fmt: skip
    said += run(
        tmp_path, "nodule_det.evaluate", "candidates=run/candidates.csv",
        "annotations=run/annotations.csv", "scans=run/scans.csv",
        "excluded=run/annotations_excluded.csv", "out=figures", "bootstrap=100",
    )  # fmt: skip
    said += run(tmp_path, "nodule_det.report", "run=run", "out=report")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "space.yaml").write_text("parameters: {x: {kind: float, low: 0.0, high: 1.0}}\n")
    said += run(
        tmp_path, "nodule_det.hpo", "study=study", f"command=[{sys.executable},program.py]",
        "search_space=space.yaml", "objective=loss", "workers=1", "trials=2",
        "acquisition.strategy=random",
    )  # fmt: skip
    said += run(tmp_path, "nodule_det.hpo.report", "study=study")
    private = {"store.names.csv", "store.secret"}
    written = [p for p in tmp_path.rglob("*") if p.is_file() and p.name not in private]
    assert len(written) > 20
    content = {p: p.read_bytes() for p in written} | {"the terminal": said}
    for place, text in content.items():
        text += str(place).encode()
        for name in names:
            assert name.encode() not in text, f"{name} in {place}"
    table = (tmp_path / "store.names.csv").read_text()
    assert all(SERIES_UID.format(n) in table for n in range(4))
    assert {key.partition(",")[0] for key in table.splitlines()[1:]} == {
        scan.series_uid for scan in open_store(tmp_path / "store").scans
    }
    ours = (p for p in tmp_path.rglob("*") if p.name not in ("program.py", "space.yaml"))
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in ours}
    assert {p: mode for p, mode in modes.items() if mode & 0o077} == {}
    predict_names_scans_by_their_series_uid_only(root, names, tmp_path)


def predict_names_scans_by_their_series_uid_only(root, names, tmp_path):
    """Search what predict writes, which docs/privacy.md says carries the UID of each scan."""
    out = tmp_path / "predictions"
    said = run(
        tmp_path, "nodule_det.predict", "checkpoint=run/best.pt", f"input={root / 'scans'}",
        "out=predictions", "device=cpu",
    )  # fmt: skip
    content = {p: p.read_bytes() + str(p).encode() for p in out.rglob("*") if p.is_file()}
    assert len(content) > 2 * 4
    uids = [SERIES_UID.format(number) for number in range(4)]
    assert all(uid.encode() in content[out / "candidates.csv"] for uid in uids)
    for place, text in (content | {"the terminal": said}).items():
        for uid in uids:
            text = text.replace(uid.encode(), b"UID")
        for name in set(names) - set(uids):
            assert name.encode() not in text, f"{name} in {place}"
    assert not any(stat.S_IMODE(p.stat().st_mode) & 0o077 for p in (out, *out.rglob("*")))


def test_a_shared_store_follows_the_umask(planted, tmp_path):
    root, _ = planted
    before = os.umask(0o022)
    try:
        run(
            tmp_path, "nodule_det.data", f"source={root / 'scans'}", "out=store", "layout=folder",
            f"annotations={root / 'annotations.csv'}", "shared=true", "store.spacing_mm=2.5",
            "workers=1",
        )  # fmt: skip
    finally:
        os.umask(before)
    mode = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert (mode["store"], mode["splits.json"]) == (0o755, 0o644)
    assert mode["store.secret"] == 0o600
