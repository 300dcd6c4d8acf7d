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
OTHER = None  # and the one to compare it with, validated on the same scans

# %% [markdown]
# # Is the second detector better?
#
# Two detectors read the same scans. Comparing their two intervals wastes information: a hard scan is hard for both. A
# paired comparison gives both the same weights of the scans. Without runs of your own the files are simulated.

# %%
import tempfile
from pathlib import Path

from matplotlib import pyplot as plt

from nodule_det.analysis import analyse_strata, cases_needed, diameter_labels
from nodule_det.evaluate import evaluate
from nodule_det.evaluate.example import write_example
from nodule_det.evaluate.words import comparison_table
from nodule_det.runs import RunFolder

if RUN and OTHER:
    run = RunFolder(Path(RUN))
    annotations, scans, excluded = run.annotations, run.scans, run.excluded
    candidates = {"first": run.candidates, "second": RunFolder(Path(OTHER)).candidates}
else:
    files = write_example(Path(tempfile.mkdtemp()), n_scans=100, seed=0)
    annotations, scans, excluded = files.annotations, files.scans, files.excluded
    candidates = {"first": files.first, "second": files.second}

detectors = {
    name: evaluate(path, annotations, scans=scans, excluded=excluded) for name, path in candidates.items()
}

# %%
figure, ax = plt.subplots(figsize=(5.6, 4), layout="constrained")
for name, detector in detectors.items():
    detector.plot(ax, label=name)

# %% [markdown]
# ## The paired difference
#
# The interval is of the difference. The p-value is of a permutation test: how often does swapping the two detectors on
# random scans give a difference as large?

# %%
comparison = detectors["first"].compare(detectors["second"])
print(comparison_table(comparison))

# %% [markdown]
# ## How many scans would it take?
#
# The number follows from the standard error of these scans, so it is an estimate, too.

# %%
for difference in (0.01, 0.02, 0.03, 0.05, 0.1):
    n = cases_needed(comparison.pauc.se, comparison.n_cases, difference)
    print(f"a difference of {difference:.2f} in pAUC: {n} scans, to detect it 8 times in 10")

# %% [markdown]
# ## Where the difference comes from

# %%
strata = {
    name: analyse_strata(d.matched, diameter_labels(d.lesions.diameter_mm)) for name, d in detectors.items()
}
for size in strata["first"]:
    pair = [strata[name][size].pauc for name in strata]
    print(f"{size:>15}: {pair[0]:.3f} and {pair[1]:.3f}, {strata['first'][size].n_lesions} lesions")
