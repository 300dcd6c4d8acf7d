"""The choice between retrained settings: by the mean over seeds, compared with paired CIs."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from nodule_det.config.crossval import Selection
from nodule_det.config.hpo_finish import FinishConfig
from nodule_det.errors import FrocInputError, TableError
from nodule_det.hpo.finish.choose import choose, cross_validate
from nodule_det.hpo.finish.plan import Contender
from nodule_det.hpo.study.trial import Trial
from nodule_det.runs import RunFolder

ANNOTATION = "seriesuid,coordX,coordY,coordZ,diameter_mm"
CANDIDATE = "seriesuid,coordX,coordY,coordZ,probability,diameter_mm"
CONFIG = FinishConfig(study="s", selection=Selection.same, bootstrap=50, permutations=50)


def run_folder(path, *, found, lesion=True):
    """Return a run on ten scans of one lesion each, of which the first ``found`` are found."""
    run = RunFolder(path)
    path.mkdir(parents=True)
    run.scans.write_text("seriesuid\n" + "".join(f"{path.name}.{i}\n" for i in range(10)))
    lesions = "".join(f"{path.name}.{i},0,0,0,6\n" for i in range(10)) if lesion else ""
    run.annotations.write_text(f"{ANNOTATION}\n{lesions}")
    run.excluded.write_text(f"{ANNOTATION}\n")
    hits = "".join(f"{path.name}.{i},0,0,0,0.9,6\n" for i in range(found))
    misses = "".join(f"{path.name}.{i},50,0,0,0.5,6\n" for i in range(10))
    run.candidates.write_text(f"{CANDIDATE}\n{hits}{misses}")
    run.froc.write_text(json.dumps({"pauc": None, "n_scans": 10, "n_lesions": 10}))
    return run


def finalist(tmp_path, number, value, found, **changes):
    trial = Trial(number=number, params={"optim.lr": 0.1 * number}, value=value, value_se=0.05)
    contender = Contender(trial, value, 0.02)
    run = run_folder(tmp_path / f"run{number}" / "fold0", found=found, **changes)
    complete = {contender.training(0, 0): run}
    return cross_validate(CONFIG, contender, complete, (0,), store(10), tmp_path)


def store(n_scans):
    """Return a store whose one fold has so many scans."""
    scans = [SimpleNamespace(series_uid=f"fold0.{i}") for i in range(n_scans)]
    return SimpleNamespace(path="stores/a", validation=lambda _: scans)


def test_the_highest_cross_validated_pauc_wins_over_the_highest_reported_value(tmp_path):
    lucky, steady = finalist(tmp_path, 1, 0.95, 4), finalist(tmp_path, 2, 0.85, 9)
    record = choose(CONFIG, [lucky, steady])
    assert record["chosen"] == 2
    first, second = record["settings"]
    assert first["largest_observed"]
    assert not second["largest_observed"]
    assert first["optimism"] == pytest.approx(0.95 - lucky.pauc)
    assert first["difference"] == pytest.approx(lucky.pauc - steady.pauc)
    low, high = first["difference_interval"]
    assert low < first["difference"] < high
    assert "difference" not in second


def test_warnings_of_all_seeds_are_listed_once(tmp_path):
    one = finalist(tmp_path, 1, 0.9, 5)
    of_seeds = [replace(one.pooled[0], warnings=lines) for lines in (("a", "b"), ("b", "c"))]
    assert one.warnings == ()
    assert replace(one, pooled=tuple(of_seeds)).warnings == ("a", "b", "c")


def test_results_on_scans_that_the_fold_no_longer_has_are_refused(tmp_path):
    trial = Trial(number=1, params={}, value=0.9)
    run = run_folder(tmp_path / "fold0", found=5)
    complete = {Contender(trial, None, None).training(0, 0): run}
    with pytest.raises(TableError, match=r"10 there, 8 here, 8 in both\): the store was changed"):
        cross_validate(
            CONFIG, Contender(trial, None, None), complete, (0,), store(8), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_folds_without_a_lesion_are_refused(tmp_path):
    with pytest.raises(FrocInputError, match="the evaluated folds have no lesion"):
        finalist(tmp_path, 1, 0.9, 0, lesion=False)
