"""The checks of a LUNA16 store, on a tiny one."""

from bench import luna16
from nodule_det.data.store import open_store
from nodule_det.runs import RunFolder

HEADER = "seriesuid,coordX,coordY,coordZ"


def test_nodules_inside_the_lungs_are_counted_and_others_named(three_folds, monkeypatch):
    store = open_store(three_folds)
    monkeypatch.setattr(luna16, "BACKWARDS", (".0", ".5"))
    assert luna16.inside(store) == [
        "all scans: 6, nodules inside the lungs 12 of 12",
        "backward scans: 2, nodules inside the lungs 4 of 4",
    ]
    assert len(set(luna16.BACKWARDS)) == 2


def test_the_distance_of_a_found_nodule_is_that_of_its_nearest_candidate(tmp_path):
    run = RunFolder(tmp_path)
    run.scans.write_text("seriesuid\na\nb\n")
    run.annotations.write_text(f"{HEADER},diameter_mm\na,0,0,0,10\nb,0,0,0,5\n")
    run.excluded.write_text(f"{HEADER},diameter_mm\n")
    run.candidates.write_text(f"{HEADER},probability\na,0,0,3,0.9\na,2,0,0,0.5\nb,9,0,0,0.9\n")
    lines = luna16.centres(run)
    assert lines[0] == "0-6 mm: 0 of 1 found, median -"
    assert lines[2] == "8-15 mm: 1 of 1 found, median 2.00 mm"
