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
RUN = None  # or "my_submission.csv": seriesuid,coordX,coordY,coordZ,probability
LUNA16 = None  # and the folder with annotations.csv, annotations_excluded.csv and seriesuids.csv

# %% [markdown]
# # A submission to LUNA16, evaluated as the challenge does
#
# The challenge's script gives sensitivities at seven false-positive rates and their mean, the CPM. Here are the same
# figures, what the script does not say about them, and what may be wrong with the file. Without files of your own the
# submission is simulated.

# %%
import tempfile
from pathlib import Path

from matplotlib import pyplot as plt

from nodule_det.analysis import capped, challenge_figures
from nodule_det.evaluate import evaluate
from nodule_det.evaluate.example import write_example
from nodule_det.evaluate.reading import read_candidates
from nodule_det.evaluate.words import audit_lines, challenge_table

if RUN and LUNA16:
    submission, folder = Path(RUN), Path(LUNA16)
    annotations, excluded = folder / "annotations.csv", folder / "annotations_excluded.csv"
    scans = folder / "seriesuids.csv"
else:
    files = write_example(Path(tempfile.mkdtemp()), n_scans=200, seed=1)
    submission, annotations, excluded, scans = files.first, files.annotations, files.excluded, files.scans

print(submission.read_text()[:230], "...")

# %% [markdown]
# ## The challenge's figures
#
# The script reads at most 100 candidates per scan. Papers often quote, as the CPM, the mean over its bootstrap resamples
# (last column) rather than the figure of the data.

# %%
candidates, _ = read_candidates(submission)
kept = capped(candidates)
detector = evaluate(candidates.take(kept), annotations, scans=scans, excluded=excluded)
challenge = challenge_figures(detector.matched, n_capped=len(candidates) - len(kept))
print(challenge_table(challenge))

# %%
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
detector.plot(ax, label="submission", log_x=True)
ax.plot(challenge.rates, challenge.sensitivity, "o", color="black", ms=4);

# %% [markdown]
# ## The same with intervals that hold
#
# The script's percentile intervals are too narrow where few lesions are missed (docs/froc.md has the table). These are
# not, and the partial area uses the whole curve up to 5 false positives per scan.

# %%
detector

# %% [markdown]
# ## What may be wrong with the file

# %%
print(audit_lines(list(detector.audit)))
