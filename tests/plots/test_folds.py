"""The spread of the folds as a picture, also where a fold has no figures."""

from matplotlib.image import imread

from nodule_det.analysis import analyse
from nodule_det.plots.folds import save_folds
from tests.analysis.froc_jobs import matched


def test_a_row_is_drawn_for_each_fold(tmp_path):
    pooled = analyse(matched([(0, 0.9), (1, None)], [(2, 0.5)], 3), bootstrap=20)
    fold = {"fold": 0, "pauc": 0.7, "pauc_interval": [0.5, 0.9], "n_lesions": 4}
    undefined = {"fold": 1, "pauc": None, "pauc_interval": None, "n_lesions": 0}
    for n in (1, 3):
        path = tmp_path / f"{n}.png"
        save_folds([fold] * n + [undefined], pooled, path)
        height = round(150 * (0.9 + 0.35 * (n + 1)))
        assert abs(imread(path).shape[0] - height) <= 1
