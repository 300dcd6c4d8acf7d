"""The simulated detectors: the same files for the same seed, and sizes as in LUNA16."""

import numpy as np

from nodule_det.analysis import analyse
from nodule_det.evaluate.example import write_example
from nodule_det.evaluate.reading import read_job
from nodule_det.froc import match


def test_the_same_seed_gives_the_same_files(tmp_path):
    one, two, other = (
        write_example(tmp_path / name, seed=k) for name, k in zip("abc", (1, 1, 2), strict=True)
    )
    for field in ("scans", "annotations", "excluded", "first", "second"):
        assert getattr(one, field).read_bytes() == getattr(two, field).read_bytes()
    assert one.first.read_bytes() != other.first.read_bytes()


def test_the_second_detector_is_better_at_small_lesions(tmp_path):
    files = write_example(tmp_path, n_scans=400)
    small = {}
    for name in ("first", "second"):
        job = read_job(getattr(files, name), files.annotations, files.scans, files.excluded)
        found = match(job.cases, job.lesions, job.candidates, job.excluded)
        assert 0.5 < analyse(found, bootstrap=2).pauc < 0.95
        small[name] = found.lesion_score[found.found & (job.lesions.diameter_mm < 8)].mean()
        assert 5 < np.median(job.lesions.diameter_mm) < 9
    assert small["second"] > small["first"] + 0.4
