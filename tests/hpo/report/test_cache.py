"""The model's results are kept for the journal that they were made from, and for no other."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from nodule_det.hpo.report import cache
from nodule_det.hpo.report.cache import FILE_NAME, insight_of
from tests.hpo.report.test_insight import by_lr, told


@pytest.fixture(scope="module")
def study():
    return told(by_lr, 6)


@pytest.fixture(scope="module")
def kept(study, tmp_path_factory):
    """Make the file, and return its folder and what was learnt."""
    folder = tmp_path_factory.mktemp("report")
    return folder, insight_of(study, 0, folder)


def same(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "slices":
            for x, y in zip(a, b, strict=True):
                assert (x.parameter, x.values) == (y.parameter, y.values)
                np.testing.assert_array_equal([x.mean, x.sd], [y.mean, y.sd])
        else:
            assert a == b, field.name


@pytest.fixture
def fits(kept, monkeypatch):
    """Count the fits, which take seconds: instead of another one, the first result is returned."""
    calls = []
    monkeypatch.setattr(cache, "learn", lambda *given: calls.append(given) or kept[1])
    return calls


def test_the_same_journal_is_not_fitted_again(study, kept, fits):
    folder, insight = kept
    same(insight_of(study, 0, folder), insight)
    same(insight_of(told(by_lr, 6), 0, folder), insight)
    assert fits == []


@pytest.mark.parametrize("other", ["another trial", "another seed", "another model"])
def test_what_the_results_depend_on_leads_to_a_new_fit(
    study, kept, fits, monkeypatch, tmp_path, other
):
    text = (kept[0] / FILE_NAME).read_text()
    (tmp_path / FILE_NAME).write_text(text)
    if other == "another model":
        monkeypatch.setattr(cache, "made_for", lambda study: "other")
    asked = told(by_lr, 7) if other == "another trial" else study
    assert insight_of(asked, int(other == "another seed"), tmp_path) is not None
    assert len(fits) == 1
    assert (tmp_path / FILE_NAME).read_text() != text


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"made_for": 1}'])
def test_a_damaged_file_is_replaced(study, kept, fits, tmp_path, damage):
    (tmp_path / FILE_NAME).write_text(damage)
    insight_of(study, 0, tmp_path)
    assert len(fits) == 1
    assert json.loads((tmp_path / FILE_NAME).read_text())["n_values"] == 6


def test_a_study_of_few_values_leaves_no_file(tmp_path):
    assert insight_of(told(by_lr, 2), 0, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_kept_result_needs_no_torch(kept):
    code = (
        "import sys; from pathlib import Path;"
        "from tests.hpo.report.test_insight import told, by_lr;"
        "from nodule_det.hpo.report import cache;"
        "[sys.modules.pop(n) for n in list(sys.modules) if n.split('.')[0] == 'torch'];"
        f"found = cache.insight_of(told(by_lr, 6), 0, Path({str(kept[0])!r}));"
        "assert found is not None; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
