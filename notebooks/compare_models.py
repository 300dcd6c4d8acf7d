# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Is the second detector better?
#
# Two detectors read the same scans. Comparing their two intervals wastes what the data know: a hard scan is hard for
# both. A paired comparison resamples scans, and both detectors with them. The files are simulated.

# %%
import tempfile
from pathlib import Path

from matplotlib import pyplot as plt

from nodule_det.evaluate.example import write_example
from nodule_det.evaluate.reading import read_job
from nodule_det.evaluate.words import comparison_table
from nodule_det.analysis import analyse
from nodule_det.froc import match
from nodule_det.analysis.comparison import cases_needed, compare
from nodule_det.analysis.strata import analyse_strata, diameter_labels

files = write_example(Path(tempfile.mkdtemp()), n_scans=100, seed=0)
jobs = {
    name: read_job(path, files.annotations, files.scans, files.excluded)
    for name, path in {"first": files.first, "second": files.second}.items()
}
matched = {
    name: match(job.cases, job.lesions, job.candidates, job.excluded) for name, job in jobs.items()
}

# %%
for name, m in matched.items():
    froc = analyse(m)
    low, high = froc.pauc_interval
    plt.plot(froc.fp_per_scan, froc.curve_sensitivity, label=f"{name}: {froc.pauc:.3f} ({low:.3f} to {high:.3f})")
plt.xlim(0, 8), plt.ylim(0, 1)
plt.xlabel("false positives per scan"), plt.ylabel("sensitivity")
plt.legend(title="pAUC up to 5 FP", loc="lower right");

# %% [markdown]
# ## The paired difference
#
# The interval is of the difference; the permutation test asks how often swapping the two detectors on random scans
# gives a difference as large.

# %%
comparison = compare(matched["first"], matched["second"])
print(comparison_table(comparison))

# %% [markdown]
# ## How many scans would it take?

# %%
differences = [0.01, 0.02, 0.03, 0.05, 0.1]
needed = [cases_needed(comparison.pauc.se, comparison.n_cases, d) for d in differences]
for difference, n in zip(differences, needed, strict=True):
    print(f"a difference of {difference:.2f} in pAUC: {n} scans, to see it 8 times in 10")

# %% [markdown]
# ## Where the difference comes from

# %%
strata = {
    name: analyse_strata(m, diameter_labels(jobs[name].lesions.diameter_mm)) for name, m in matched.items()
}
for size in strata["first"]:
    pair = [strata[name][size].pauc for name in strata]
    print(f"{size:>15}: {pair[0]:.3f} and {pair[1]:.3f}, {strata['first'][size].n_lesions} lesions")
