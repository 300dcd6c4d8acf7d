"""An evaluation from DataFrames, dicts and paths: the same object, whatever the tables are."""

import re
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from nodule_det.analysis import analyse
from nodule_det.errors import FrocInputError
from nodule_det.evaluate import Boxes, Masks, evaluate
from nodule_det.evaluate.example import write_example
from nodule_det.evaluate.reading import SIZE, read_job
from nodule_det.froc import Lesions, match
from tests.data.scan_files import UPRIGHT, write_file


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("example"), n_scans=30)


@pytest.fixture(scope="module")
def froc(files):
    job = read_job(files.first, files.annotations, files.scans, files.excluded)
    matched = match(job.cases, job.lesions, job.candidates, job.excluded)
    return analyse(matched, bootstrap=100)


def frames(files):
    names = ("first", "annotations", "scans", "excluded")
    return [pd.read_csv(getattr(files, name)) for name in names]


def as_dict(frame, number):
    """Return a table as a dict of arrays with the names that the package uses itself."""
    world = frame[["coordX", "coordY", "coordZ"]].to_numpy()
    return {"case": list(frame.seriesuid), "world_mm": world, number[1]: frame[number[0]]}


def test_paths_data_frames_and_dicts_give_the_same_figures(files, froc):
    first, annotations, scans, excluded = frames(files)
    by_path = evaluate(
        files.first,
        str(files.annotations),
        scans=files.scans,
        excluded=files.excluded,
        bootstrap=100,
    )
    by_frame = evaluate(first, annotations, scans=scans, excluded=excluded, bootstrap=100)
    size = ("diameter_mm", "diameter_mm")
    by_dict = evaluate(
        as_dict(first, ("probability", "score")),
        as_dict(annotations, size),
        scans=scans.seriesuid,
        excluded=as_dict(excluded, size),
        bootstrap=100,
    )
    assert by_path.froc == by_frame.froc == by_dict.froc == froc


def test_it_unpacks_like_a_curve_of_scikit_learn(files):
    first, annotations, scans, excluded = frames(files)
    fp_per_scan, sensitivity, threshold = evaluate(
        first, annotations, scans=scans, excluded=excluded, bootstrap=2
    )
    assert fp_per_scan.shape == sensitivity.shape == threshold.shape
    assert (fp_per_scan[0], sensitivity[0], threshold[0]) == (0, 0, np.inf)
    assert (np.diff(fp_per_scan) >= 0).all()


@pytest.fixture(scope="module")
def done(files):
    first, annotations, scans, excluded = frames(files)
    return evaluate(first, annotations, scans=scans, excluded=excluded, bootstrap=100)


def test_a_frame_has_every_figure_with_its_ci(done):
    frame = done.to_frame()
    assert list(frame.columns) == ["value", "ci_low", "ci_high", "threshold"]
    assert len(frame) == 9
    assert frame.loc["CPM", "value"] == done.froc.cpm
    assert (frame.ci_low <= frame.value).all()
    assert (frame.value <= frame.ci_high).all()


def test_it_is_drawn_into_the_axes_of_a_figure(done):
    ax = Figure().subplots()
    assert done.plot(ax, label="mine") is ax
    (line,) = ax.lines
    assert line.get_xydata()[0].tolist() == [0, 0]
    assert line.get_label().startswith("mine: pAUC 0.")
    assert ax.get_xlim() == (0, 8)
    assert done.plot(Figure().subplots(), log_x=True).get_xscale() == "log"


def test_a_notebook_shows_a_table_and_the_warnings(done):
    page = done._repr_html_()
    assert page.count("<tr>") == 10
    assert f"<td>{done.froc.pauc:.4f}</td>" in page
    assert "Warnings" not in page


def test_a_terminal_shows_one_line(done):
    froc = done.froc
    assert repr(done).startswith(f"Evaluation(pAUC {froc.pauc:.4f} (")
    assert f"lesions detected in 30 scans, {froc.n_false_positives} false positive" in repr(done)


def test_warnings_are_escaped_and_shown(files):
    first, annotations, scans, _ = frames(files)
    twice = pd.concat([first, first])
    odd = evaluate(twice, annotations, scans=scans, bootstrap=20)
    assert "have exactly the place of an earlier one" in odd._repr_html_()
    assert [finding.code for finding in odd.warnings] == ["duplicate_candidates"]


def test_two_detectors_are_compared(files, done):
    _, annotations, scans, excluded = frames(files)
    other = evaluate(files.second, annotations, scans=scans, excluded=excluded, bootstrap=100)
    comparison = done.compare(other)
    assert comparison.pauc.difference == other.froc.pauc - done.froc.pauc
    assert comparison.bootstrap == 100


def test_patients_come_from_any_table(files):
    first, annotations, scans, _ = frames(files)
    patient = scans.seriesuid.str[:-1]
    series = pd.Series(patient.to_numpy(), index=scans.seriesuid)
    ways = [
        {"patients": dict(zip(scans.seriesuid, patient, strict=True))},
        {"patients": series},
        {"patients": scans.assign(patient=patient)},
        {"scans": scans.assign(patient=patient)},
    ]
    made = [
        evaluate(first, annotations, **{"scans": scans, "bootstrap": 50, **way}).froc
        for way in ways
    ]
    assert {froc.n_patients for froc in made} == {3}
    assert made[0] == made[1] == made[2] == made[3]
    assert evaluate(first, annotations, scans=scans, bootstrap=20).froc.n_patients is None


def test_columns_x_y_z_of_tensors_are_understood():
    rows = {"series_uid": ["a"], "x": torch.zeros(1), "y": torch.zeros(1), "z": torch.zeros(1)}
    done = evaluate(
        rows | {"score": torch.tensor([7], dtype=torch.uint8)},
        rows | {"diameter_mm": torch.tensor([5.0])},
        scans=["a"],
        bootstrap=20,
    )
    assert done.froc.pauc == 1
    assert "too few scans" in done._repr_html_()


ROWS = {"case": ["a"], "world_mm": [[0, 0, 0]]}
GOOD = ROWS | {"score": [1.0]}, ROWS | {"diameter_mm": [5.0]}


@pytest.mark.parametrize(
    ("candidates", "lesions", "scans", "words"),
    [
        (ROWS, GOOD[1], ["a"], "the table of candidates lacks the column probability or score"),
        (GOOD[0] | {"probability": [1]}, GOOD[1], ["a"], "the columns probability and score"),
        (GOOD[0], ROWS, ["a"], "the table of lesions lacks the column diameter_mm"),
        ({"score": [1]}, GOOD[1], ["a"], "lacks the column seriesuid"),
        ({"case": ["a"], "score": [1]}, GOOD[1], ["a"], "lacks the columns coordX, coordY, coordZ"),
        (
            {"case": ["a"], "score": [1], "x": [0, 1], "y": [0], "z": [0]},
            GOOD[1],
            ["a"],
            "x, y, z of candidates must be columns of the same length",
        ),
        ([("a", 0, 0, 0, 1)], GOOD[1], ["a"], "must be a DataFrame, a dict of arrays or the path"),
        (None, GOOD[1], ["a"], "not NoneType"),
        (GOOD[0], GOOD[1], [], "the list of scans is empty"),
        (GOOD[0], GOOD[1], ["b"], "1 lesion belongs to 1 case"),
        (GOOD[0], {k: v[:0] for k, v in GOOD[1].items()}, ["a"], "there is no lesion in 1 scan"),
    ],
)
def test_a_wrong_table_is_named(candidates, lesions, scans, words):
    with pytest.raises(FrocInputError, match=re.escape(words)):
        evaluate(candidates, lesions, scans=scans)


def test_patients_of_another_kind_are_refused():
    with pytest.raises(FrocInputError, match="patients must be a dict from scan to patient"):
        evaluate(*GOOD, scans=["a"], patients=["P"])
    with pytest.raises(FrocInputError, match="1 of 1 scan has no patient"):
        evaluate(*GOOD, scans=["a"], patients={"b": "P"})


def test_neither_pandas_nor_matplotlib_nor_torch_is_needed():
    code = (
        "import sys\n"
        "for name in ('pandas', 'matplotlib', 'torch'): sys.modules[name] = None\n"
        "from nodule_det.errors import FrocInputError\n"
        "from nodule_det.evaluate import evaluate\n"
        "rows = {'case': ['a'], 'world_mm': [[0, 0, 0]]}\n"
        "done = evaluate(rows | {'score': [1]}, rows | {'diameter_mm': [5]}, scans=['a'])\n"
        "done._repr_html_()\n"
        "try: done.to_frame()\n"
        "except FrocInputError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ("to_frame() needs pandas, which is not installed: pip install pandas\n")


BOXED = {"case": ["a", "b"], "world_mm": [[0, 0, 0], [50, 0, 0]], "diameter_mm": [4, 8]}
FOUND = {"case": ["a", "b"], "world_mm": [[1, 0, 0], [62, 0, 0]], "score": [0.9, 0.4]}
SCANS = [*"abcde"]


def test_boxes_decide_where_they_are_asked_for():
    # 48 of 80 and 18 of 42, as in test_main.py.
    edges = [[4, 4, 4], [30, 4, 4]]
    columns = {name: [row[k] for row in edges] for k, name in enumerate(SIZE)}
    for more in ({"size_mm": edges}, columns):
        tables = (FOUND | more, pd.DataFrame(BOXED | more) if more is columns else BOXED | more)
        if more is columns:
            tables[1][["x", "y", "z"]] = BOXED["world_mm"]
            del tables[1]["world_mm"]
        for hit, n_found in ((None, 1), (Boxes(0.4), 2), (Boxes(0.5), 1)):
            done = evaluate(*tables, scans=SCANS, hit=hit, bootstrap=2)
            assert done.froc.n_found == n_found


def test_diameters_are_the_edges_of_cubes():
    cubes = FOUND | {"diameter_mm": [4, 40]}
    assert evaluate(cubes, BOXED, scans=SCANS, hit=Boxes(0.5), bootstrap=2).froc.n_found == 1


def test_candidates_without_boxes_are_refused():
    with pytest.raises(FrocInputError, match="candidates have no boxes: hits by boxes need"):
        evaluate(FOUND, BOXED, scans=SCANS, hit=Boxes())


def test_masks_decide_where_they_are_asked_for(tmp_path):
    for uid in "ab":
        write_file(tmp_path / f"{uid}.nii.gz", np.ones(UPRIGHT.size_vox, np.uint8))
    at = UPRIGHT.to_world([[2, 4, 4], [2, 4, 4]])
    lesions = BOXED | {"world_mm": at}
    found = FOUND | {"world_mm": UPRIGHT.to_world([[0, 0, 0], [99, 0, 0]])}
    done = evaluate(found, lesions, scans=SCANS, hit=Masks(tmp_path), bootstrap=2)
    assert done.matched.found.tolist() == [True, False]


HERE = FOUND | {"world_mm": [[1, 0, 0], [50, 0, 0]]}
ODD = {
    "complex scores": (HERE | {"score": [1j, 2]}, {}, "complex128"),
    "dates as scores": (HERE | {"score": pd.to_datetime(["2020", "2021"])}, {}, "datetime64"),
    "words as scores": (HERE | {"score": ["0.9", "x"]}, {}, "cannot be read as numbers"),
    "integers beyond floats": (HERE | {"score": [10**400, 1]}, {}, "cannot be read as numbers"),
    "one score for all": (HERE | {"score": 0.5}, {}, "expected (2, 3) and (2,)"),
    "one id for all": (HERE | {"case": "a"}, {}, "must be one id per row"),
    "missing ids": (HERE | {"case": pd.array(["a", pd.NA])}, {}, "row 1 has none"),
    "points of unequal length": (HERE | {"world_mm": [[0, 0], [1]]}, {}, "cannot be read"),
    "two columns of scores": (HERE | {"probability": [1, 2]}, {}, "probability and score"),
    "nothing": (None, {}, "must be a DataFrame, a dict of arrays or the path"),
    "rows": ([("a", 0, 0, 0, 0.5)], {}, "must be a DataFrame, a dict of arrays or the path"),
    "an array": (np.zeros((3, 5)), {}, "must be a DataFrame, a dict of arrays or the path"),
    "lesions": (Lesions(["a"], [[0, 0, 0]], [5]), {}, "must be a DataFrame, a dict of arrays"),
    "a path with a null byte": ("a\0.csv", {}, "it has a null byte"),
    "a path that is too long": ("a" * 5000, {}, "is not a path of a file"),
    "no list of scans": (HERE, {"scans": None}, "scans must be a list of ids"),
    "nested scans": (HERE, {"scans": [["a"], ["b"]]}, "must be one id per row"),
    "patients as a list": (HERE, {"patients": ["p"] * 5}, "patients must be a dict"),
    "few patients": (HERE, {"patients": {"case": SCANS, "patient": ["p"]}}, "5 scans and 1 pat"),
    "a word as the limit": (HERE, {"upper": "x"}, "upper=x must be a positive number"),
    "no limit": (HERE, {"upper": None}, "upper=None must be a positive number"),
    "half a resample": (HERE, {"bootstrap": 10.5}, "bootstrap=10.5 must be a whole number"),
    "no resamples": (HERE, {"bootstrap": None}, "bootstrap=None must be a whole number"),
    "a negative seed": (HERE, {"seed": -1}, "seed=-1 must be a whole number of at least 0"),
    "no seed": (HERE, {"seed": None}, "seed=None must be a whole number"),
    "a word as overlap": (HERE | {"size_mm": np.ones((2, 3))}, {"hit": Boxes("x")}, "iou=x must"),
    "a class as rule": (HERE, {"hit": Boxes}, "is not a rule"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_inputs_are_refused_with_our_error(name):
    candidates, settings, words = ODD[name]
    with pytest.raises(FrocInputError, match=re.escape(words)):
        evaluate(candidates, BOXED, **({"scans": SCANS, "bootstrap": 20} | settings))


@pytest.mark.parametrize(
    "score",
    [
        np.array([9, 4], np.uint8),
        [True, False],
        torch.tensor([True, False]),
        torch.tensor([0.9, 0.4], dtype=torch.bfloat16, requires_grad=True),
        pd.array([0.9, 0.4], dtype="Float64"),
        pd.arrays.SparseArray([0.9, 0.4]),
        [Decimal("0.9"), Decimal("0.4")],
        [np.inf, -np.inf],
    ],
    ids=lambda score: f"{type(score).__name__}-{getattr(score, 'dtype', '')}",
)
def test_scores_of_every_type_are_taken(score):
    done = evaluate(HERE | {"score": score}, BOXED, scans=SCANS, bootstrap=20)
    assert done.matched.found.all()


def keys(ids):
    return dict.fromkeys(ids).keys()


@pytest.mark.parametrize("kind", [set, iter, pd.Index, pd.Categorical, np.array, keys])
def test_lists_of_every_type_are_taken(kind):
    assert evaluate(HERE, BOXED, scans=kind(SCANS), bootstrap=20).froc.n_scans == 5
