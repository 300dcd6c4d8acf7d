"""The examples of docs/froc.md: boxes of other tools -> a CSV that evaluate reads."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nodule_det.evaluate.reading import read_candidates

PAGE = Path(__file__).parents[2] / "docs" / "froc.md"
BOX = {"x": (10, 16), "y": (20, 24), "z": (5, 7)}
CENTER_VOX = (13.0, 22.0, 6.0)  # x, y, z


@pytest.fixture(scope="module")
def documented():
    names = {"np": np, "csv": csv, "json": json, "Path": Path}
    for block in re.findall(r"```python\n(def .*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    return names


@pytest.fixture(scope="module")
def image():
    made = sitk.Image([40, 40, 20], sitk.sitkInt16)
    made.SetSpacing([0.7, 0.8, 2.5])
    made.SetOrigin([-100.0, -150.0, 30.0])
    made.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    return made


def test_nndetections_boxes(documented, image):
    boxes = np.array([[*(BOX[k][0] for k in "zy"), *(BOX[k][1] for k in "zy"), *BOX["x"]]])
    world = documented["nndetection_to_world"](
        boxes, image.GetOrigin(), image.GetSpacing(), image.GetDirection()
    )
    expected = image.TransformContinuousIndexToPhysicalPoint(CENTER_VOX)
    np.testing.assert_allclose(world, [expected])


def test_monais_boxes(documented, image):
    # MONAI's affine takes voxels to RAS: ITK's point with the sign of x and y turned.
    origin = np.array(image.TransformContinuousIndexToPhysicalPoint([0.0, 0.0, 0.0]))
    steps = [image.TransformContinuousIndexToPhysicalPoint(e) for e in np.eye(3).tolist()]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = (np.array(steps) - origin).T, origin
    affine = np.diag([-1, -1, 1, 1]) @ affine
    boxes = np.array([[BOX[k][0] for k in "xyz"] + [BOX[k][1] for k in "xyz"]])
    expected = image.TransformContinuousIndexToPhysicalPoint(CENTER_VOX)
    np.testing.assert_allclose(documented["monai_to_world"](boxes, affine), [expected])


def test_the_result_file_of_monais_tutorial(documented, tmp_path):
    path = tmp_path / "result.json"
    scans = [
        {
            "label": [0],
            "box": [[1.5, 2.0, 3.0, 8, 8, 6]],
            "score": [0.25],
            "image": "in/1.2/1.2.nii.gz",
        },
        {"label": [], "box": [], "score": [], "image": "in/1.3/1.3.nii.gz"},
    ]
    path.write_text(json.dumps({"validation": scans}))
    documented["write_candidates"](tmp_path / "c.csv", documented["monai_results"](path))
    candidates, _ = read_candidates(tmp_path / "c.csv")
    assert candidates.case.tolist() == ["1.2"]
    assert candidates.world_mm.tolist() == [[1.5, 2.0, 3.0]]


def test_the_written_file_is_read_back(documented, tmp_path):
    path = tmp_path / "candidates.csv"
    documented["write_candidates"](path, [("a", np.array([[1.5, 2.0, 3.0]]), np.array([0.25]))])
    candidates, _ = read_candidates(path)
    assert candidates.world_mm.tolist() == [[1.5, 2.0, 3.0]]
    assert candidates.score.tolist() == [0.25]
