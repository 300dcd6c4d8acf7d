"""The command as a user meets it: real files in, real files and words out."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nodule_det.config.evaluate import Compat, EvaluateConfig
from nodule_det.config.hits import HitBy
from nodule_det.errors import ConfigError, NoduleDetError
from nodule_det.evaluate import sections
from nodule_det.evaluate.reading import read_job
from nodule_det.origin import Origin, ScanRecord, write_origin

HEADER = "seriesuid,coordX,coordY,coordZ"
FILES = {
    # Scan a: a lesion found at 0.9 and hit again at 0.4; b: one missed; c: nothing there.
    "annotations.csv": f"{HEADER},diameter_mm\na,0,0,0,10\nb,50,0,0,8\n",
    "excluded.csv": f"{HEADER},diameter_mm\na,-40,0,0,-1\n",
    "scans.csv": "a\nb\nc\nd\n",
    "candidates.csv": f"{HEADER},probability\n"
    "a,1,0,0,0.9\na,0,2,0,0.4\na,-43,0,0,0.8\nc,9,9,9,0.95\nb,9,9,9,0.3\n",
}


def evaluate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "nodule_det.evaluate",
            *(f"{n}={n}.csv" for n in ("candidates", "annotations", "scans")),
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    process = evaluate(folder, "excluded=excluded.csv", "out=result", "bootstrap=50")
    assert process.returncode == 0, process.stderr
    return process, folder / "result"


def test_the_figures_are_those_worked_out_by_hand(done):
    froc = json.loads((done[1] / "froc.json").read_text())
    # From (0, 0) by 0.95 to (1/4, 0), by 0.9 up to (1/4, 1/2), by 0.3 on to (2/4, 1/2).
    assert froc["pauc"] == pytest.approx((5 - 1 / 4) / 2 / 5)
    assert froc["pauc_step"] == pytest.approx((5 - 1 / 4) / 2 / 5)
    assert froc["cpm"] == pytest.approx((0 + 6 / 2) / 7)
    assert froc["sensitivity"] == [0] + [1 / 2] * 6
    assert froc["threshold"] == [None, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3]
    counts = ("n_scans", "n_lesions", "n_found", "n_candidates", "n_false_positives")
    assert [froc[name] for name in counts] == [4, 2, 1, 5, 2]
    assert (froc["n_excluded"], froc["n_repeated"]) == (1, 1)


def test_scans_that_the_network_has_seen_are_warned_of(folder):
    write_origin(folder / "candidates.csv", Origin(scans=ScanRecord.of(["a", "e"], ["b"])))
    process = evaluate(folder, "bootstrap=50")
    assert "figures: training (the network was trained on 1 of 4 scans)\n" in process.stdout
    assert "trained on 1 of 4 scans: figures on these say nothing about new" in process.stdout
    assert "1 of 4 scans chose the network's checkpoint" in process.stdout
    froc = json.loads((folder / "evaluation" / "froc.json").read_text())
    assert froc["kind"] == "training (the network was trained on 1 of 4 scans)"
    assert [finding["code"] for finding in froc["audit"]][:2] == ["seen_before"] * 2


def test_it_leaves_a_curve_and_pictures(done):
    rows = list(csv.DictReader((done[1] / "froc_curve.csv").read_text().splitlines()))
    assert rows[0] == {"fp_per_scan": "0.0", "sensitivity": "0.0", "threshold": ""}
    assert rows[2] == {"fp_per_scan": "0.25", "sensitivity": "0.5", "threshold": "0.9"}
    names = {path.name for path in done[1].iterdir()}
    assert names == {"froc.json", "froc_curve.csv", "froc.png", "froc.svg", "froc.pdf"}


def test_it_prints_one_aligned_table(done):
    lines = done[0].stdout.splitlines()
    assert lines[:2] == [
        "1 of 2 lesions detected in 4 scans",
        "5 candidates: 2 false positives, 1 duplicate detection, 1 on excluded findings",
    ]
    cells = [re.split(r" {2,}", line.strip()) for line in lines[3:16]]
    rows = {name: rest for name, *rest in cells if rest}
    assert rows["pAUC, 0-5 FP/scan"] == ["0.4750", "too few scans"]
    assert rows["CPM"][0] == "0.4286"
    assert rows["sensitivity at 1/8 FP/scan"] == ["0.0000", "too few scans", "none"]
    assert rows["sensitivity at 1/4 FP/scan"] == ["0.5000", "too few scans", "0.9"]
    assert "a 95% CI needs at least 5 scans, and there are 4: read these figures as counts" in lines


def test_the_audit_is_printed_and_kept(done):
    findings = json.loads((done[1] / "froc.json").read_text())["audit"]
    codes = {finding["code"]: finding for finding in findings}
    assert codes["cases_without_candidates"]["rows"] == [{"case": "d"}]
    assert codes["missed_lesions"]["rows"][0]["diameter_mm"] == 8
    assert "note:    1 of 4 scans has no candidate" in done[0].stdout
    assert "c  at 9.0 9.0 9.0 mm  score 0.95" in done[0].stdout


def test_blanks_around_ids_are_removed_and_reported(folder):
    (folder / "candidates.csv").write_text(f"{HEADER},score\n a ,0,0,0,0.5\n")
    assert (
        "1 id had blanks around the text, which were removed"
        in evaluate(folder, "bootstrap=20").stdout
    )


def test_forgetting_the_excluded_list_costs_false_positives(folder):
    assert evaluate(folder, "bootstrap=2").returncode == 0
    froc = json.loads((folder / "evaluation" / "froc.json").read_text())
    assert (froc["n_excluded"], froc["n_false_positives"]) == (0, 3)


def test_luna16s_own_lists_are_read_as_they_are(shared, tmp_path):
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.154677396354641150280013275227"
    (tmp_path / "seriesuids.csv").write_text(f"{uid}\n")
    (tmp_path / "candidates.csv").write_text(
        f"{HEADER},probability\n{uid},-57,131,-520,0.7\n{uid},24,177,-431,0.9\n{uid},0,0,0,0.8\n"
    )
    done = evaluate(
        tmp_path,
        "scans=seriesuids.csv",
        f"annotations={shared}/data/annotations.csv",
        f"excluded={shared}/data/annotations_excluded.csv",
        "bootstrap=2",
    )
    assert done.returncode == 0, done.stderr
    froc = json.loads((tmp_path / "evaluation" / "froc.json").read_text())
    # The nodule ranks behind one false positive; the top candidate is on an excluded finding.
    assert froc["pauc"] == pytest.approx(4 / 5)
    assert froc["n_excluded"] == 1


def test_compat_luna16_gives_the_challenges_figures(tmp_path):
    golden = Path(__file__).parents[1] / "golden" / "luna16"
    done = evaluate(
        golden,
        "compat=luna16",
        "scans=seriesuids.csv",
        "excluded=annotations_excluded.csv",
        f"out={tmp_path}",
        "bootstrap=50",
    )
    assert done.returncode == 0, done.stderr
    luna16 = json.loads((tmp_path / "froc.json").read_text())["luna16"]
    assert luna16["n_capped"] == 1287 - 1013
    fp, sensitivity, _ = np.loadtxt(golden / "froc_candidates.txt", delimiter=",").T
    expected = np.interp(luna16["rates"], fp, sensitivity)
    np.testing.assert_allclose(luna16["sensitivity"], expected, rtol=0, atol=2e-9)
    assert "274 candidates discarded: over 100 per scan" in done.stdout


def test_strata_and_another_detector_are_printed_and_kept(folder):
    (folder / "annotations.csv").write_text(
        f"{HEADER},diameter_mm,texture\na,0,0,0,10,solid\nb,50,0,0,5,glass\n"
    )
    (folder / "other.csv").write_text(f"{HEADER},score\na,0,0,0,9\nb,50,0,0,8\n")
    done = evaluate(folder, "strata=texture", "compare=other.csv", "bootstrap=200")
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "evaluation" / "froc.json").read_text())
    groups = record["strata"]["groups"]
    assert [groups[name]["n_found"] for name in ("solid", "glass")] == [1, 0]
    assert record["comparison"]["pauc"]["second"] == 1
    assert record["jafroc"]["n_normal"] == 2
    assert "all groups share all false positives" in done.stdout
    assert "pAUC 0.4750 -> 1.0000" in done.stdout
    by_size = evaluate(folder, "strata=diameter", "bootstrap=20").stdout
    assert by_size.index("below 6 mm") < by_size.index("8 to 15 mm")


@pytest.mark.parametrize("cell", ["nan", "0", "-1", "", "-7"])
def test_excluded_findings_without_a_diameter_are_excluded_all_the_same(folder, cell):
    (folder / "excluded.csv").write_text(f"{HEADER},diameter_mm\na,-40,0,0,{cell}\n")
    paths = [folder / f"{name}.csv" for name in ("candidates", "annotations", "scans", "excluded")]
    froc = sections.evaluate(EvaluateConfig(**NAMED, bootstrap=2), read_job(*paths)).froc
    assert (froc.n_excluded, froc.n_false_positives) == (1, 2)


def test_an_infinite_excluded_finding_is_refused(folder):
    (folder / "excluded.csv").write_text(f"{HEADER},diameter_mm\na,-40,0,0,inf\n")
    paths = [folder / f"{name}.csv" for name in ("candidates", "annotations", "scans", "excluded")]
    with pytest.raises(NoduleDetError, match="line 2 has diameter_mm=inf, which would exclude"):
        read_job(*paths)


def test_strata_by_a_column_that_is_not_there_are_refused(folder):
    paths = [folder / f"{name}.csv" for name in ("candidates", "annotations", "scans")]
    words = r"strata=texture is not a column of .*annotations.csv: use diameter or one of seriesuid"
    with pytest.raises(ConfigError, match=words):
        sections.evaluate(EvaluateConfig(**NAMED, strata="texture"), read_job(*paths, None))


@pytest.mark.parametrize("name", ["excluded", "candidates"])
def test_a_list_without_rows_is_an_answer(folder, name):
    header = f"{HEADER},{'diameter_mm' if name == 'excluded' else 'probability'}\n"
    (folder / f"{name}.csv").write_text(header)
    done = evaluate(folder, "excluded=excluded.csv", "bootstrap=20")
    assert done.returncode == 0, done.stderr


def test_without_lesions_there_is_a_reason_instead_of_a_figure(folder):
    (folder / "annotations.csv").write_text(f"{HEADER},diameter_mm\n")
    done = evaluate(folder)
    assert done.returncode == 0
    assert "no figures: there is no lesion in 4 scans" in done.stdout
    assert json.loads((folder / "evaluation" / "froc.json").read_text())["pauc"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scans.csv": None}, "scans.csv does not exist"),
        ({"scans.csv": "\n"}, "scans.csv is empty"),
        ({"scans.csv": "a,1\n"}, "has several columns but no header with seriesuid: 'a,1'"),
        ({"scans.csv": "a\nb\nc\nb\n"}, "case b is listed twice in the list of scans"),
        ({"scans.csv": "a\nb\nd\n"}, "1 candidate belongs to 1 case that is not in the list"),
        ({"annotations.csv": f"{HEADER},diameter_mm\na,0,0,0,-1\n"}, "line 2 has diameter_mm="),
        ({"annotations.csv": f"{HEADER},diameter_mm\na,nan,0,0,9\n"}, "coordinate that is not"),
        ({"candidates.csv": f"{HEADER},prob\na,0,0,0,1\n"}, "neither a column probability nor"),
        (
            {"candidates.csv": f"{HEADER},probability\na,0,0,0,nan\n"},
            "(drop_nan=true leaves them out in nodule_det.evaluate)",
        ),
        ({"candidates.csv": f"{HEADER},probability\na,0,0,0,x\n"}, "probability='x' is not"),
    ],
)
def test_a_bad_input_says_what_to_do(folder, change, message):
    for name, text in change.items():
        (folder / name).unlink() if text is None else (folder / name).write_text(text)
    paths = [folder / f"{name}.csv" for name in ("candidates", "annotations", "scans")]
    with pytest.raises(NoduleDetError, match=re.escape(message)):
        sections.evaluate(EvaluateConfig(**NAMED), read_job(*paths, None))


NAMED = {"candidates": "candidates.csv", "annotations": "annotations.csv", "scans": "scans.csv"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"scans": ""}, "scans is missing: add scans=FILE.csv"),
        ({"upper": 0.0}, "upper=0.0 must be a positive number"),
        ({"detect": -1.0}, "detect=-1.0 must be a positive difference"),
        ({"bootstrap": 1}, "bootstrap=1 must lie in [2, 1000000]"),
        ({"permutations": 0}, "permutations=0 must lie in [1, 1000000]"),
    ],
)
def test_a_wrong_setting_says_what_to_do(setting, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        EvaluateConfig(**(NAMED | setting))


def test_an_error_is_one_line_and_leaves_nothing(folder):
    (folder / "scans.csv").write_text("a\n")
    done = evaluate(folder)
    assert done.returncode == 1
    assert done.stderr.startswith("error: 1 lesion belongs to 1 case")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (folder / "evaluation").exists()


def test_what_is_refused_can_be_left_out_on_purpose(folder):
    with (folder / "candidates.csv").open("a") as f:
        f.write("zz,0,0,0,1\na,7,7,7,nan\n")
    assert evaluate(folder, "drop_unknown_candidates=true").returncode == 1
    done = evaluate(folder, "drop_unknown_candidates=true", "drop_nan=true", "bootstrap=20")
    assert done.returncode == 0, done.stderr


def test_torch_is_never_imported(folder):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['x', 'candidates=candidates.csv', 'annotations=annotations.csv',\n"
        "            'scans=scans.csv', 'bootstrap=2']\n"
        "try: runpy.run_module('nodule_det.evaluate', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, capture_output=True)


def test_boxes_and_masks_decide_about_hits_by_a_setting(folder):
    from tests.data.scan_files import UPRIGHT, write_file

    boxes = "sizeX,sizeY,sizeZ"
    # Scan a: 4 x 4 x 4 mm boxes 1 mm apart overlap by 48 of 80; b: 30 x 4 x 4 mm, 12 mm apart,
    # by 18 of 42, far from the centre.  Flat excluded finding in c, whose box the candidate fills.
    (folder / "annotations.csv").write_text(
        f"{HEADER},diameter_mm,{boxes}\na,0,0,0,4,4,4,4\nb,50,0,0,8,30,4,4\n"
    )
    (folder / "candidates.csv").write_text(
        f"{HEADER},probability,{boxes}\na,1,0,0,0.9,4,4,4\nb,62,0,0,0.4,30,4,4\nc,9,9,9,0.95,2,2,2\n"
    )
    (folder / "excluded.csv").write_text(f"{HEADER},diameter_mm,{boxes}\nc,9,9,9,2,2,2,2\n")
    words = ("excluded=excluded.csv", "bootstrap=2")

    def counts(*more):
        done = evaluate(folder, *words, *more)
        assert done.returncode == 0, done.stderr
        froc = json.loads((folder / "evaluation" / "froc.json").read_text())
        assert froc["hit"] == dict(w.split("=") for w in more).get("hit", "centre")
        return done.stdout, froc["n_found"], froc["n_false_positives"], froc["n_excluded"]

    assert counts()[1:] == (1, 1, 1)
    said, *rest = counts("hit=iou", "iou=0.4")
    assert rest == [2, 0, 1]
    assert "a hit is a box with an IoU of at least 0.4 with the lesion's" in said
    assert counts("hit=iou", "iou=0.5")[1:] == (1, 1, 1)

    for uid, x in (("a", 0), ("b", 50)):
        drawn = np.zeros(UPRIGHT.size_vox, np.uint8)
        drawn[2:4, 2:6, 2:6] = 1
        center_mm = UPRIGHT.to_world([2, 4, 4]) - UPRIGHT.origin_mm
        grid = replace(UPRIGHT, origin_mm=tuple((np.array([x, 0, 0]) - center_mm).tolist()))
        write_file(folder / f"masks/{uid}.nii.gz", drawn, grid)
    said, *rest = counts("hit=mask", "masks=masks")
    assert rest == [1, 1, 1]  # 62 is outside the mask of b
    assert "a hit lies in the lesion's mask" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hit": HitBy.mask}, "hit=mask needs the masks of the lesions"),
        ({"hit": HitBy.iou, "compat": Compat.luna16}, "compat=luna16 decides by the centre"),
        (
            {"hit": HitBy.iou, "masks": "m", "candidate_masks": "c", "compare": "x.csv"},
            "candidate_masks are of one detector",
        ),
    ],
)
def test_rules_of_hits_that_do_not_fit_together_are_refused(settings, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        EvaluateConfig(candidates="c", annotations="a", scans="s", **settings)


def test_boxes_that_are_in_no_column_are_named(folder):
    done = evaluate(folder, "hit=iou")
    assert done.returncode == 1
    assert "candidates.csv has no boxes: hits by boxes need the columns sizeX," in done.stderr
