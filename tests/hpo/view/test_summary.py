from dataclasses import replace

from nodule_det.config.hpo import Direction
from nodule_det.hpo.study.objective import PAUC, Objective
from nodule_det.hpo.view.summary import (
    columns,
    one_line,
    param_cells,
    summarise,
    trial_row,
    value_text,
)


def test_counts_and_times_are_those_of_the_trials(study):
    s = summarise(study, now_s=7200.0)
    assert (s.trials, s.complete, s.failed, s.running, s.queued) == (5, 2, 1, 1, 1)
    assert s.node_h == 3.0
    assert s.failures == {"out_of_memory": 1}
    assert s.eta_s(trials=11, workers=4) == (11 - 3) * 3600 / 4


def test_the_best_is_shown_with_its_ci(study):
    assert value_text(study.best(), PAUC) == "0.6000 [0.5804, 0.6196]"  # 1.96 standard errors
    line = one_line(summarise(study, 7200.0), trials=11, workers=4)
    assert line == (
        "2/11 complete, 1 failed, 0 cancelled, 1 running, 1 queued; "
        "best pAUC 0.6000 [0.5804, 0.6196] in trial 2; about 2:00:00 remaining"
    )


def test_a_row_shows_the_state_as_users_know_it(study):
    states = [trial_row(t, 7200.0, PAUC)[1] for t in study.trials]
    assert states == ["complete", "complete", "failed (out_of_memory)", "running", "queued"]
    assert trial_row(study.trial(4), 7200.0, PAUC)[3] == "1:00:00"


def test_a_ci_of_the_pauc_stays_between_0_and_1(study):
    study.apply({"kind": "finished", "t": 0.0, "trial": 4, "state": "complete", "value": 0.0})
    zero = replace(study.trial(4), value_se=0.1)
    assert value_text(zero, PAUC) == "0.0000 [0.0000, 0.1960]"


def test_a_loss_is_shown_with_its_name_and_as_reported(study):
    loss = Objective("rmse", Direction.minimize)
    trial = replace(study.trial(1), value=-12.5, value_se=None)
    assert columns(loss)[2] == "rmse"
    assert trial_row(trial, 7200.0, loss)[2] == "12.5"
    line = one_line(replace(summarise(study, 7200.0), objective=loss, best=trial))
    assert line.endswith("; best rmse 12.5 in trial 1")


def test_a_running_trial_shows_its_last_validation(study):
    study.apply({"kind": "observed", "t": 0.0, "trial": 4, "epoch": 5, "value": 0.25})
    assert trial_row(study.trial(4), 7200.0, PAUC)[2] == "(0.2500 at epoch 5)"


def test_the_cell_of_an_absent_parameter_is_empty_and_text_is_printable(study):
    trial = replace(study.trial(1), params={"optim.lr": 0.00123456, "name": "a\x1b[31m"})
    assert param_cells(trial, ["optim.lr", "name", "other"]) == ("0.00123", "a?[31m", "")


def test_infeasible_trials_are_counted_and_never_the_best(study):
    done = {"kind": "finished", "t": 0.0, "trial": 4, "state": "complete", "value": 0.9}
    study.apply(done | {"reason": "infeasible", "message": "seconds=41 is above 30"})
    line = one_line(summarise(study, 7200.0))
    assert line.startswith("3 complete (1 infeasible), 1 failed, 0 cancelled, 0 running, 1 queued")
    assert "in trial 2" in line
    assert trial_row(study.trial(4), 7200.0, PAUC)[1:3] == ("complete (infeasible)", "-")
