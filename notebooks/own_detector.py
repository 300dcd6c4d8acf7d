# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %%
RUN = None  # or "detections.csv": the output of your detector, with columns as below

# %% [markdown]
# # Any detector, from a DataFrame
#
# Candidates, annotations and the list of scans are DataFrames: from a database, a CSV file, or the output of another
# tool. Two statements lead to a FROC curve.

# %%
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from nodule_det.evaluate import evaluate
from nodule_det.evaluate.words import comparison_table

rng = np.random.default_rng(0)
scans = pd.DataFrame({"seriesuid": [f"1.2.840.{k}" for k in range(60)], "patient": [f"P{k // 2}" for k in range(60)]})
lesions = pd.DataFrame(rng.uniform(-100, 100, (80, 3)), columns=["coordX", "coordY", "coordZ"]).assign(
    seriesuid=rng.choice(scans.seriesuid, 80), diameter_mm=rng.uniform(4, 20, 80)
)
lesions.head(3)

# %% [markdown]
# The output of a detector has a score instead of a diameter. Coordinates are world millimetres (x, y, z), LPS as in DICOM.


# %%
def detections(strength, seed):
    """Simulate a detector: lesions score `strength` above 15 false positives per scan."""
    rng = np.random.default_rng(seed)
    hits = lesions.assign(score=rng.normal(strength, 1, len(lesions))).query("score > -1").drop(columns="diameter_mm")
    false = pd.DataFrame(rng.uniform(-100, 100, (900, 3)), columns=["coordX", "coordY", "coordZ"])
    return pd.concat([hits, false.assign(seriesuid=rng.choice(scans.seriesuid, 900), score=rng.normal(size=900))])


candidates = pd.read_csv(RUN) if RUN else detections(1.5, seed=1)
candidates.head(3)

# %% [markdown]
# ## Two statements to a curve
#
# `scans` has a column `patient`, so patients are resampled: two scans of one patient are not independent.

# %%
detector = evaluate(candidates, lesions, scans=scans)
detector.plot(plt.figure(figsize=(5.6, 4), layout="constrained").subplots(), label="mine");

# %%
detector

# %% [markdown]
# It unpacks like scikit-learn's `roc_curve`, and `to_frame()` has the figures for your own table or report.

# %%
fp_per_scan, sensitivity, threshold = detector
detector.to_frame().round(3)

# %% [markdown]
# ## Compared with another detector

# %%
other = evaluate(detections(2.5, seed=2), lesions, scans=scans)
print(comparison_table(detector.compare(other)))

# %% [markdown]
# ## When something is wrong, it says so
#
# Here x and y have the wrong sign in some scans, as happens between NIfTI and DICOM.

# %%
mistaken = candidates.copy()
some = mistaken.seriesuid.isin(scans.seriesuid[:20])
mistaken.loc[some, ["coordX", "coordY"]] *= -1
for finding in evaluate(mistaken, lesions, scans=scans).warnings:
    print(finding.message)

# %% [markdown]
# ## Hits by boxes
#
# Boxes decide instead of the distance to the centre where a rule is passed. Their edges are columns `sizeX`, `sizeY`,
# `sizeZ` in mm. `Masks(FOLDER)` does the same with label images.

# %%
from nodule_det.evaluate import Boxes

boxed = candidates.assign(sizeX=12.0, sizeY=12.0, sizeZ=12.0)
evaluate(boxed, lesions, scans=scans, hit=Boxes(iou=0.1)).froc.n_found

# %% [markdown]
# ## A report that a radiologist can read
#
# `nodule-det report` writes one HTML page with every missed lesion and the worst false positives in three planes. It
# needs the scans: here small ones, with each lesion drawn as a ball.

# %%
import subprocess, sys, tempfile
from pathlib import Path

import SimpleITK as sitk

folder, step_mm = Path(tempfile.mkdtemp()), 4.0
(folder / "images").mkdir()
z, y, x = np.mgrid[-120:121:step_mm, -120:121:step_mm, -120:121:step_mm]
for uid in scans.seriesuid:
    hu = rng.normal(-850, 30, z.shape).astype(np.int16)
    for row in lesions[lesions.seriesuid == uid].itertuples():
        away_mm = np.sqrt((x - row.coordX) ** 2 + (y - row.coordY) ** 2 + (z - row.coordZ) ** 2)
        hu[away_mm < row.diameter_mm / 2 + step_mm / 2] = 40
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing([step_mm] * 3)
    image.SetOrigin([-120.0] * 3)
    sitk.WriteImage(image, str(folder / "images" / f"{uid}.mha"))

for name, table in (("candidates", candidates), ("annotations", lesions), ("scans", scans)):
    table.to_csv(folder / f"{name}.csv", index=False)
tables = [f"{name}={name}.csv" for name in ("candidates", "annotations", "scans")]
report = [sys.executable, "-m", "nodule_det", "report", *tables, "images=images", "false_positives_per_scan=1"]
print(subprocess.run(report, cwd=folder, check=True, capture_output=True, text=True).stdout)

# %% [markdown]
# Open `folder / "report.html"` in a browser. It needs no server and no network.
