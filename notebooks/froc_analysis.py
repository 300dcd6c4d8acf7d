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
# # One detector, read and explained
#
# How good is a lung-nodule detector, how sure is that, and what does it miss? The files here are simulated, in
# LUNA16's format; put the paths of your own run folder in their place.

# %%
import tempfile
from pathlib import Path

from IPython.display import SVG

from nodule_det.evaluate.example import write_example
from nodule_det.evaluate.reading import read_job
from nodule_det.evaluate.words import audit_lines, figures_table, strata_table
from nodule_det.plots.froc_curve import curve_svg
from nodule_det.analysis import analyse
from nodule_det.froc import match
from nodule_det.analysis.audit import audit
from nodule_det.analysis.jafroc import jafroc
from nodule_det.analysis.strata import analyse_strata, diameter_labels

files = write_example(Path(tempfile.mkdtemp()), n_scans=100, seed=0)
job = read_job(files.first, files.annotations, files.scans, files.excluded)
f"{len(job.candidates)} candidates and {len(job.lesions)} lesions in {len(job.cases)} scans"

# %% [markdown]
# ## What hit what
#
# A candidate hits a lesion if it lies nearer to its centre than half its diameter. Candidates on excluded findings
# are neither right nor wrong. The rest are false positives.

# %%
matched = match(job.cases, job.lesions, job.candidates, job.excluded)
print(f"{matched.found.sum()} of {matched.n_lesions} lesions are hit by some candidate")
print(f"{len(matched.fp_row)} false positives, {len(matched.excluded_row)} on excluded findings")

# %% [markdown]
# ## What is odd about the input
#
# Look here first: wrong lists and axes give figures that look plausible.

# %%
print(audit_lines(audit(job.lesions, job.candidates, job.excluded, matched)))

# %% [markdown]
# ## The figures, each with its 95 % interval
#
# The interval comes from resampling whole scans. With 100 scans it is wide: differences within it mean nothing.

# %%
froc = analyse(matched, bootstrap=1000, seed=0)
print(figures_table(froc, jafroc(matched, bootstrap=200, seed=0)))

# %%
SVG(curve_svg(froc))

# %% [markdown]
# ## Which lesions are found
#
# Only lesions have a size or a texture; the false positives are shared by all rows.

# %%
print(strata_table("diameter", analyse_strata(matched, diameter_labels(job.lesions.diameter_mm))))

# %%
print(strata_table("texture", analyse_strata(matched, job.lesion_table.text("texture"))))
