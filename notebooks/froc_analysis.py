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
RUN = None  # or "runs/2026-11-28_14-00-00": a run folder of yours

# %% [markdown]
# # One detector, read and explained
#
# How good is a lung-nodule detector, how certain is that, and what does it miss? Without a run of your own the files are
# simulated, in LUNA16's format.

# %%
import tempfile
from pathlib import Path

from matplotlib import pyplot as plt

from nodule_det.analysis import analyse_strata, diameter_labels
from nodule_det.evaluate import evaluate
from nodule_det.evaluate.example import write_example
from nodule_det.evaluate.words import audit_lines, strata_table
from nodule_det.runs import RunFolder
from nodule_det.tables import read_table

if RUN:
    run = RunFolder(Path(RUN))
    candidates, annotations, scans, excluded = run.candidates, run.annotations, run.scans, run.excluded
else:
    files = write_example(Path(tempfile.mkdtemp()), n_scans=100, seed=0)
    candidates, annotations, scans, excluded = files.first, files.annotations, files.scans, files.excluded

detector = evaluate(candidates, annotations, scans=scans, excluded=excluded)

# %% [markdown]
# ## The figures, each with its 95% CI
#
# A candidate detects a lesion if it lies nearer to its centre than half its diameter. Candidates on excluded findings
# are ignored, and so are further hits of the same lesion. All others are false positives.
#
# The intervals come from weighting whole scans (or patients, where they are known) at random. With 100 scans they are
# wide: differences within them mean nothing.

# %%
detector

# %%
figure, (linear, log) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
detector.plot(linear)
detector.plot(log, log_x=True);

# %% [markdown]
# ## What is odd about the input
#
# Look here first: wrong lists and axes give figures that look plausible.

# %%
print(audit_lines(list(detector.audit)))

# %% [markdown]
# ## Which lesions are found
#
# Only lesions have a size or a texture. The false positives are shared by all rows.

# %%
sizes = analyse_strata(detector.matched, diameter_labels(detector.lesions.diameter_mm))
print(strata_table("diameter", sizes))

# %%
figure, ax = plt.subplots(figsize=(5.5, 2.4), layout="constrained")
for place, froc in enumerate(sizes.values()):
    ax.plot(froc.pauc_interval, (place, place), color="tab:blue")
    ax.plot(froc.pauc, place, "o", color="tab:blue")
ax.set_yticks(range(len(sizes)), sizes)
ax.set(xlim=(0, 1), xlabel="pAUC, 0-5 FP/scan, with 95% CI")
ax.invert_yaxis()

# %%
table = read_table(annotations, ("seriesuid",))
if "texture" in table.columns:
    print(strata_table("texture", analyse_strata(detector.matched, table.text("texture"))))
