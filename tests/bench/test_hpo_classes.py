"""The comparison of tuning methods by class: its studies, its file and its table."""

import json

import numpy as np
import pytest

from bench import hpo_classes, hpo_problems


def study(peer, number, regret, name="classic"):
    return {"class": name, "number": number, "peer": peer, "workers": 16, "regret": regret}


def test_the_table_pairs_a_peer_with_ours_by_problem():
    flat = {"nei": (0.1, 0.3), "tpe": (0.3, 0.7, 0.9)}
    studies = [study(p, n, [r] * 100) for p, all_ in flat.items() for n, r in enumerate(all_)]
    *_, row = hpo_classes.table(studies).splitlines()
    # ours: mean 0.2, error 0.1; TPE less ours 0.2 and 0.4: problem 2 was only run with TPE
    assert row == "| classic | 16 | 100 | 0.200 ± 0.100 (2) | +0.300 ± 0.100 (2) |"


def test_the_table_shows_the_regret_after_60_and_after_100_jobs():
    regret = [0.5] * 60 + [0.25] * 40
    rows = hpo_classes.table([study("nei", 0, regret)]).splitlines()[2:]
    assert [row.split("|")[3:5] for row in rows] == [
        [" 60 ", " 0.500 (1) "],
        [" 100 ", " 0.250 (1) "],
    ]


def test_the_cheap_peer_runs_on_all_problems_first():
    planned = hpo_classes.planned(["classic", "family"], ["random", "nei"], 16)
    n = len(hpo_problems.NUMBERS["classic"]) + len(hpo_problems.NUMBERS["family"])
    assert [s["peer"] for s in planned] == ["random"] * n + ["nei"] * n


def test_a_run_again_adds_only_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hpo_classes, "JOBS", 5)
    monkeypatch.setitem(hpo_problems.NUMBERS, "classic", range(2))
    words = ["hpo_classes", "run", str(tmp_path), "--classes", "classic", "--peers", "random"]
    monkeypatch.setattr("sys.argv", words)
    hpo_classes.main()
    path = tmp_path / "studies.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second[:40]}")  # killed while writing
    hpo_classes.main()
    lines = path.read_text().splitlines()
    assert lines[0] == first
    assert json.loads(lines[2])["regret"] == json.loads(second)["regret"]
    assert capsys.readouterr().out.count("random on classic 1") == 2


@pytest.mark.parametrize("number", range(5))
def test_no_point_of_a_classic_function_is_above_its_optimum(number):
    function, d = hpo_problems.CLASSICS[number]
    found = function(np.random.default_rng(0).random((20_000, d)))
    assert found.min() > -1e-4


def test_pipelines_are_cross_validated():
    problem = hpo_problems.problem("pipelines", 3)
    point = {"kind": "svc", "scale": "standard", "components": 0.9, "c": 1.0, "gamma": 0.01}
    assert problem.truth([point])[0] > 0.9


def test_an_unknown_class_is_refused():
    with pytest.raises(SystemExit, match="nonsense is not a class: use one of family, trainings"):
        hpo_problems.problem("nonsense", 0)


def test_other_problems_of_a_class_can_be_chosen():
    planned = hpo_classes.planned(["classic"], ["nei"], 16, hpo_classes.number_range("12-14"))
    assert [s["number"] for s in planned] == [12, 13, 14]


def test_a_third_of_the_rough_problems_trainings_fail_and_the_others_are_noisy():
    problem = hpo_problems.problem("rough", 1)
    rng = np.random.default_rng(0)
    points = [problem.space.sample(rng) for _ in range(400)]
    runs = [problem.train(point, rng) for point in points]
    truth = problem.truth(points)
    failed = np.array([run.code != 0 for run in runs])
    assert 0.2 < failed.mean() < 0.45
    assert (truth[failed] == 0).all()
    noise = np.array([r.result.pauc for r in runs if r.code == 0]) - truth[~failed]
    assert 0.5 < noise.std() / truth[~failed].std() < 0.9


@pytest.mark.parametrize("name", ["lcbench", "xgboost"])
def test_missing_files_of_yahpo_are_named(name, tmp_path):
    with pytest.raises(SystemExit, match=rf"{tmp_path}.* holds no surrogate of YAHPO Gym"):
        hpo_problems.problem(name, 0, yahpo=tmp_path)
