"""The summary of a store whose numbers can be counted by hand."""

from __future__ import annotations

import json

import numpy as np
from matplotlib.image import imread

from nodule_det.data.ingest.summary import HU_BINS, summarise, write_summary
from nodule_det.data.store import open_store
from tests.data.test_store import make_store


def test_scans_lesions_and_folds_are_counted(tmp_path):
    make_store(tmp_path, folds=(0, 1, 1))
    summary = summarise(open_store(tmp_path))
    assert (summary["n_scans"], summary["n_lesions"], summary["n_excluded"]) == (3, 3, 3)
    assert summary["scans_per_fold"] == {"0": 1, "1": 2}
    assert summary["lesions_per_fold"] == {"0": 1, "1": 2}
    assert summary["diameter_mm"] == [6.5, 6.5, 6.5]
    assert summary["source_spacing_mm"] == [[2.5, 0.7, 0.7]] * 3
    assert summary["bytes"] == 3 * 2 * 18 * 20 * 22
    assert summary["lesions_outside_lungs"] == {}


def test_the_histogram_sees_air_and_tissue_where_they_are(tmp_path):
    make_store(tmp_path)
    summary = summarise(open_store(tmp_path))
    counts = np.array(summary["hu_counts"])
    seen = {int(HU_BINS[i]) for i in np.flatnonzero(counts)}
    assert seen <= {-864, 0}  # -850 and 30 HU, in bins of 32
    assert counts.sum() == 2 * -(-18 * 20 * 22 // 101)


def test_failures_are_written_down_beside_a_picture(tmp_path):
    make_store(tmp_path)
    write_summary(tmp_path, {"1.9": "a.raw is truncated"})
    assert json.loads((tmp_path / "summary.json").read_text())["failures"] == {
        "1.9": "a.raw is truncated"
    }
    assert imread(tmp_path / "summary.png").std() > 0.05
