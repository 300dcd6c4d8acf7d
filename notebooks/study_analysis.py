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
RUN = None  # or "studies/first": a study folder of yours

# %% [markdown]
# # A tuning study, read and explained
#
# How good did it get, which workers were busy, and what did it learn about the parameters? Without a study of your own
# it is simulated: the real driver, virtual time, made-up trainings on 8 workers. `nodule-det hpo report
# study=studies/first` writes all of this as one page.

# %%
# %matplotlib inline
# %config InlineBackend.print_figure_kwargs = {"dpi": 65}
import tempfile
from pathlib import Path

from IPython.display import SVG

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.hpo.simulate.functions import Objective
from nodule_det.plots.style import as_svg
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.report.figures import draw_best, draw_states, draw_workers
from nodule_det.hpo.report.history import best_so_far, busy_share, endings, last_seen_s, timeline
from nodule_det.hpo.report.insight import learn
from nodule_det.hpo.report.space_figures import draw_importance, draw_parallel, draw_slices
from nodule_det.hpo.simulate.study import Plan, run_study
from nodule_det.hpo.study.study import read_study
from nodule_det.hpo.view.summary import one_line, summarise

folder = Path(RUN or tempfile.mkdtemp())
random = AcquisitionConfig(strategy=Strategy.random)  # bayesian strategies take a minute
plan = Plan(workers=8, jobs=40, acquisition=random)
if not RUN:
    run_study(Objective(6), propose_random, plan, folder)

study = read_study(folder)
now_s = last_seen_s(study)
print(one_line(summarise(study, now_s)))

# %% [markdown]
# ## The best value so far
#
# Against trials this shows how much each one helped, against hours how long it took. The band is the 95% CI of the best
# value, from its standard error over validation cases. The largest of many noisy values is partly luck.

# %%
draw_best(best_so_far(study), "jobs", study.objective)

# %%
draw_best(best_so_far(study), "hours", study.objective)

# %% [markdown]
# ## Which workers were busy
#
# Colours show how the jobs ended. White gaps are idle workers.

# %%
spans = timeline(study, now_s)
print(f"a job ran in {busy_share(study, spans, now_s):.1%} of the workers' time")
draw_workers(spans)

# %% [markdown]
# ## What failed, and what it cost

# %%
for ending in endings(study):
    print(f"{ending.what}, {ending.reason}: {ending.count} times, {ending.node_h:.1f} node hours")
draw_states(study)

# %% [markdown]
# ## All trials at once
#
# The darker a line, the better the trial; dotted lines failed.

# %%
SVG(as_svg(draw_parallel(study.space, study.trials, study.objective), "parallel"))

# %% [markdown]
# ## What the model has learned
#
# Each panel varies one parameter and keeps all others as in the best trial. A wide band means that little was tried
# there. A flat line with a narrow band means that the parameter does not matter here.

# %%
insight = learn(study)
print(f"the model expects {insight.expected:.3f} of the best settings, where {insight.best.value:.3f} was seen")
draw_slices(insight, study.space, study.trials, study.objective)

# %% [markdown]
# Total-effect Sobol' indices weigh each parameter over the whole space, where a wrong learning rate outweighs all else.
# What matters near the best point is in the slices.

# %%
draw_importance(insight, study.space)
