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
# # A tuning study, read and explained
#
# How good did it get, who worked when, and what did it learn about the parameters? The study here is simulated: the real
# driver, virtual time, made-up trainings on 8 workers. For your own put `read_study(Path("studies/first"))` in its place;
# `python -m nodule_det.hpo.report study=studies/first` writes all of this as one page.

# %%
import tempfile
from pathlib import Path

from IPython.display import SVG

from nodule_det.config.hpo import AcquisitionConfig, StoppingConfig
from nodule_det.plots.style import as_svg
from nodule_det.hpo.simulate.functions import Objective
from nodule_det.hpo.strategy.bayesian import propose
from nodule_det.hpo.report.figures import draw_best, draw_states, draw_workers
from nodule_det.hpo.report.history import best_so_far, busy_share, endings, last_seen_s, timeline
from nodule_det.hpo.report.insight import learn
from nodule_det.hpo.report.space_figures import draw_importance, draw_parallel, draw_slices
from nodule_det.hpo.simulate.study import Plan, run_study
from nodule_det.hpo.study.study import read_study
from nodule_det.hpo.view.summary import one_line, summarise

folder = Path(tempfile.mkdtemp())
plan = Plan(workers=8, jobs=40, acquisition=AcquisitionConfig(), stopping=StoppingConfig())
run_study(Objective(6), propose, plan, folder)

study = read_study(folder)
now_s = last_seen_s(study)
print(one_line(summarise(study, now_s)))

# %% [markdown]
# ## The best value so far
#
# Against trials this says how much each one taught, against hours how long you waited. The band is the 95 % interval of the
# best value, from its standard error over validation cases; the largest of many noisy values is mostly a lucky one.

# %%
SVG(as_svg(draw_best(best_so_far(study), "jobs"), "jobs"))

# %%
SVG(as_svg(draw_best(best_so_far(study), "hours"), "hours"))

# %% [markdown]
# ## Who was busy when
#
# Colours tell what became of the jobs. White gaps are workers that waited.

# %%
spans = timeline(study, now_s)
print(f"a job ran in {busy_share(study, spans, now_s):.1%} of the workers' time")
SVG(as_svg(draw_workers(spans), "workers"))

# %% [markdown]
# ## What failed, and what it cost

# %%
for ending in endings(study):
    print(f"{ending.what}, {ending.reason}: {ending.count} times, {ending.node_h:.1f} node hours")
SVG(as_svg(draw_states(study), "states"))

# %% [markdown]
# ## All trials at once
#
# The darker a line, the better the trial; dotted lines failed.

# %%
SVG(as_svg(draw_parallel(study.space, study.trials), "parallel"))

# %% [markdown]
# ## What the model has learnt
#
# Each panel moves one parameter and leaves all others as in the best trial. A band that is wide says: not tried there. A
# flat line with a narrow band says: it does not matter here.

# %%
insight = learn(study)
print(f"the model expects {insight.expected:.3f} of the best settings, where {insight.best.value:.3f} was seen")
SVG(as_svg(draw_slices(insight, study.space, study.trials), "slices"))

# %% [markdown]
# Total-effect Sobol' indices weigh each parameter over the whole space, where a wrong learning rate outweighs all else.
# What matters near the best point is in the slices.

# %%
SVG(as_svg(draw_importance(insight, study.space), "importance"))
