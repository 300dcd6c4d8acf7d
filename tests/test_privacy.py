"""Nothing that identifies a patient is in what an anonymised store and its commands write."""

from __future__ import annotations

import csv
import os
import re
import stat
import subprocess
import sys

import pytest

from nodule_det.checkpoint import Checkpoint, Meta, save_checkpoint
from nodule_det.commands import COMMANDS
from nodule_det.config.train import ModelConfig
from nodule_det.data.readers.dicom_header import patient_key
from nodule_det.data.store import open_store
from nodule_det.model import build_model
from nodule_det.origin import ScanRecord, read_origin
from tests.data.chests import GRID, HEADER, chest_hu, lesion_row
from tests.data.scan_files import cut, write_series
from tests.train.tiny_run import WORDS

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
SHORT = {"O"}
"""Values that are too short to be looked for."""
GOOD, BROKEN = range(6), range(6, 9)
"""Numbers of the series that can be read, and of those that cannot."""
DAMAGED_FILE = "Quux_Zacharias_letter_19231224"
UNSEEING = {"demo", "hpo init", "hpo simulate"}
"""Commands that read no data of patients."""
SPACE = "parameters: {optim.lr: {kind: float, low: 1e-4, high: 1e-2, log: true}}\n"
FAST = ("dispatcher.poll_s=0.05", "dispatcher.grace_s=1")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Write patients full of names; return the data set and all that identifies them."""
    root = tmp_path_factory.mktemp("Zacharias_Quux") / "Ward Omega 3"
    names = [value for value in TAGS.values() if value and value not in SHORT]
    rows = []
    for number in (*GOOD, *BROKEN):
        uid = SERIES_UID.format(number)
        tags = TAGS | {"t0020_000e": uid, "t0020_000d": STUDY_UID}
        tags["t0010_0020"] = f"HOSP471100{number}"
        folder = root / "scans" / f"Quux_Zacharias_{number}" / "DICOMDIRQ"
        packing = {"compressor": "JPEG"} if number == BROKEN[2] else {}
        write_series(folder, chest_hu(number), GRID, **packing, **tags)
        rows.append(f"{lesion_row(uid)},solid,Mr Quux coughs,RadiologistQ")
        names += [uid, f"HOSP471100{number}", f"Quux_Zacharias_{number}"]
    broken = [root / "scans" / f"Quux_Zacharias_{n}" / "DICOMDIRQ" for n in BROKEN]
    cut(broken[0] / "7.dcm", 3000)  # a slice cut off, a slice missing, and damaged pixels
    (broken[1] / "7.dcm").unlink()
    content = bytearray((broken[2] / "7.dcm").read_bytes())
    start = content.index(b"\xff\xd8\xff") + 2  # JPEG's tables
    content[start : start + 200] = bytes(200)
    (broken[2] / "7.dcm").write_bytes(content)
    (root / "scans" / f"{DAMAGED_FILE}.nii.gz").write_bytes(b"\x1f\x8b" + bytes(range(100)))
    table = root / "annotations.csv"
    table.write_text("\n".join([f"{HEADER},texture,remark,reader", *rows]) + "\n")
    names += [STUDY_UID, "Zacharias", "Quux", "Ward Omega", "coughs", "RadiologistQ", "DICOMDIRQ"]
    return root, sorted({*names, DAMAGED_FILE})


def run(cwd, name, *words, code=0):
    """Run a command; return all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det", *name.split(), *words], cwd=cwd, capture_output=True,
        check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == code, (name, done.stderr.decode())
    return done.stdout + done.stderr


def every_command(root, cwd):
    """Run every command on a data set of which four scans fail; yields its name and output."""
    (cwd / "space.yaml").write_text(SPACE)
    (cwd / "points.yaml").write_text("- {optim.lr: 0.001}\n")
    data = (
        f"source={root / 'scans'}", "out=store", "layout=folder", "store.spacing_mm=2.5",
        f"annotations={root / 'annotations.csv'}", "anonymise=true", "store.folds=3", "workers=1",
    )  # fmt: skip
    small = ("store=store", "device=cpu", "limits.epochs=1", *WORDS)
    train = [f"train.{word}" for word in small]
    tables = [
        f"{name}=cv/{file}.csv"
        for name, file in (("candidates", "candidates"), ("annotations", "annotations"),
                           ("scans", "scans"), ("excluded", "annotations_excluded"))
    ]  # fmt: skip
    yield "data", run(cwd, "data", *data, code=1)
    yield "data", run(cwd, "data", *data, code=1)  # again: what is done stays, the rest fails again
    yield "data verify", run(cwd, "data verify", "store=store")
    study = ("study=study", "search_space=space.yaml", "trials=1", "acquisition.strategy=random")
    plain = "keep.pack=false"  # what is packed could not be searched
    yield "hpo", run(cwd, "hpo", *study, *FAST, *train, plain)
    yield "train", (cwd / "study/trials/0001/train.log").read_bytes()  # by hpo
    yield "report", run(cwd, "report", "run=study/trials/0001", "out=report")
    yield "baseline", run(cwd, "baseline", "store=store", "out=blobs", "workers=2")
    yield "crossval", run(cwd, "crossval", "out=cv", "folds=[0]", "bootstrap=20", *FAST, *train)
    yield "evaluate", run(cwd, "evaluate", *tables, "out=figures", "bootstrap=20")
    yield "predict", run(
        cwd, "predict", "checkpoint=study/trials/0001/best.pt", f"input={root / 'scans'}",
        "out=found", "device=cpu", "anonymise=true", "secret=store.secret", code=1,
    )  # fmt: skip
    yield "score", run(
        cwd, "score", "checkpoint=study/trials/0001/best.pt", "store=store", "fold=0",
        "run_dir=scored", "device=cpu",
    )  # fmt: skip
    yield (
        "export",
        run(
            cwd,
            "export",
            "checkpoint=study/trials/0001/best.pt",
            "format=torchscript",
            "out=net.ts",
        ),
    )
    for name, words in {
        "hpo status": (), "hpo show": (), "hpo report": (), "hpo export": (),
        "hpo finish": ("settings=1", "bootstrap=20", "permutations=20", "folds=[0]", *FAST),
        "hpo add": ("points=points.yaml",), "hpo prune": ("remove=true", "keep_best=0"),
    }.items():  # fmt: skip
        yield name, run(cwd, name, "study=study", *words)
    yield "hpo cancel", run(cwd, "hpo cancel", "study=study", "trial=99", code=1)
    yield (
        "data names",
        run(
            cwd,
            "data names",
            "names=store.names.csv",
            "table=found/candidates.csv",
            "out=named.csv",
        ),
    )


def test_no_identifier_is_in_any_byte_of_what_the_commands_write(planted, tmp_path):
    root, names = planted
    assert len(names) >= 40
    outputs = list(every_command(root, tmp_path))
    assert {name for name, _ in outputs} == set(COMMANDS) - UNSEEING
    private = {"store.names.csv", "store.secret", "found.names.csv", "named.csv"}
    everything = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert private <= {p.name for p in everything}
    written = [p for p in everything if p.name not in private]
    assert len(written) > 100
    content = {str(p.relative_to(tmp_path)): p.read_bytes() for p in written}
    content |= {f"terminal of {name}, {n}": said for n, (name, said) in enumerate(outputs)}
    patterns = {name: pattern_of(name) for name in names}
    for place, text in content.items():
        for name, pattern in patterns.items():
            assert not pattern.search(place.encode() + text), f"{name} in {place}"
    ours = (p for p in tmp_path.rglob("*") if p.name not in ("points.yaml", "space.yaml"))
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in ours}
    assert {p: mode for p, mode in modes.items() if mode & 0o077} == {}

    keys = {scan.patient_key for scan in open_store(tmp_path / "store").scans}
    origin = read_origin(tmp_path / "found/candidates.csv")
    assert origin is not None
    seen = origin.scans
    listed = seen.trained_patients | seen.selected_patients
    assert len(listed) == len(keys) == len(GOOD)
    plain = {patient_key(f"HOSP471100{number}") for number in GOOD}
    assert not (listed | keys) & plain
    assert listed == ScanRecord.of(keys, [], {key: key for key in keys}).trained_patients

    kept = rows_of(tmp_path / "store.names.csv")
    uids = {SERIES_UID.format(n) for n in (*GOOD, *BROKEN)}
    assert {row["original"] for row in kept} == uids | {DAMAGED_FILE}
    failed = {row["original"] for row in kept if row["failure"]}
    assert failed == {SERIES_UID.format(n) for n in BROKEN} | {DAMAGED_FILE}
    keys = {row["original"]: row["seriesuid"] for row in kept}
    assert {scan.series_uid for scan in open_store(tmp_path / "store").scans} == {
        keys[SERIES_UID.format(n)] for n in GOOD
    }
    same_secret = rows_of(tmp_path / "found.names.csv")
    assert {row["original"]: row["seriesuid"] for row in same_secret} == keys
    assert {row["original"] for row in same_secret if row["failure"]} == failed
    found = {row["seriesuid"] for row in rows_of(tmp_path / "named.csv")}
    assert found
    assert found <= uids


def pattern_of(name):
    """Search for a name; one of digits only not within a longer number, such as a random float."""
    text = re.escape(name.encode())
    return re.compile(rb"(?<!\d)" + text + rb"(?!\d)" if name.isdigit() else text)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predictions_carry_the_uids_of_scans_unless_anonymised(planted, tmp_path):
    """Search what predict writes by default, which docs/privacy.md says carries each scan's UID."""
    root, names = planted
    out = tmp_path / "predictions"
    one = root / "scans" / f"Quux_Zacharias_{GOOD[0]}" / "DICOMDIRQ"
    meta = Meta(ModelConfig(depth=2, filters=4, residual=False), 2.5, 12.0, "0.1.0", step=1)
    weights = build_model(meta.model).state_dict()
    save_checkpoint(tmp_path / "any.pt", Checkpoint(meta, weights))
    said = run(
        tmp_path, "predict", "checkpoint=any.pt", f"input={one}", "out=predictions", "device=cpu"
    )
    content = {p: p.read_bytes() + str(p).encode() for p in out.rglob("*") if p.is_file()}
    uid = SERIES_UID.format(GOOD[0])
    assert uid.encode() in content[out / f"{uid}.mrk.json"]
    for place, text in (content | {"the terminal": said}).items():
        for name in set(names) - {uid}:
            assert name.encode() not in text.replace(uid.encode(), b"UID"), f"{name} in {place}"
    assert not any(stat.S_IMODE(p.stat().st_mode) & 0o077 for p in (out, *out.rglob("*")))


def test_a_shared_store_follows_the_umask(planted, tmp_path):
    root, _ = planted
    before = os.umask(0o022)
    try:
        run(
            tmp_path, "data", f"source={root / 'scans'}", "out=store", "layout=folder",
            f"annotations={root / 'annotations.csv'}", "shared=true", "store.spacing_mm=2.5",
            "workers=1", code=1,
        )  # fmt: skip
    finally:
        os.umask(before)
    mode = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert (mode["store"], mode["splits.json"]) == (0o755, 0o644)
    assert mode["store.secret"] == 0o600
