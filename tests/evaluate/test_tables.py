"""Tables of any kind as candidates, lesions, scans and patients."""

import numpy as np
import pandas as pd
import pytest

from nodule_det.errors import FrocInputError
from nodule_det.evaluate.tables import as_candidates, as_lesions, as_patients, as_scans
from nodule_det.froc import NO_LESIONS, Candidates

FRAME = pd.DataFrame({"seriesuid": [1, 2], "coordX": [0, 1], "coordY": [0, 2], "coordZ": [0, 3]})


def test_a_frame_keeps_the_order_of_its_rows_whatever_its_index():
    candidates = as_candidates(FRAME.assign(probability=[5, 6])[::-1])
    assert candidates.case.tolist() == ["2", "1"]
    assert candidates.world_mm.tolist() == [[1, 2, 3], [0, 0, 0]]
    assert candidates.score.tolist() == [6, 5]


def test_records_of_the_package_pass_through():
    candidates = Candidates(["a"], [[0, 0, 0]], [1])
    assert as_candidates(candidates) is candidates
    assert as_lesions(NO_LESIONS) is NO_LESIONS


def test_a_file_of_excluded_findings_may_lack_diameters(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\na,0,0,0,-1\n")
    assert as_lesions(path, "excluded").diameter_mm.tolist() == [-1]


@pytest.mark.parametrize(
    "scans",
    [["a", "b"], ("a", "b"), np.array(["a", "b"]), pd.Series(["a", "b"]), {"a": 1, "b": 2}.keys()],
)
def test_a_list_of_scans_may_be_any_sequence(scans):
    assert as_scans(scans, set()).tolist() == ["a", "b"]


def test_a_file_of_scans_names_the_patients(tmp_path):
    path = tmp_path / "scans.csv"
    path.write_text("seriesuid,patient\na,P\nb,P\n")
    cases = as_scans(path, set())
    assert as_patients(None, path, cases) == {"a": "P", "b": "P"}
    assert as_patients(path, ["a", "b"], cases) == {"a": "P", "b": "P"}


def test_a_table_without_patients_is_refused():
    with pytest.raises(FrocInputError, match="or a table with the columns seriesuid and patient"):
        as_patients(3, ["a"], np.array(["a"]))


@pytest.mark.parametrize("scans", [None, 5])
def test_scans_that_are_no_list_are_refused(scans):
    with pytest.raises(FrocInputError, match="scans must be a list of ids, a table or a path"):
        as_scans(scans, set())
