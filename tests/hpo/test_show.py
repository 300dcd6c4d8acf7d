from tests.hpo.command_line import hpo


def test_show_prints_the_command_of_a_trial(finished_study):
    study = finished_study
    run = hpo("nodule_det.hpo.show", f"study={study}", "trial=2")
    assert run.stdout.splitlines()[0] == "trial: 2"
    assert f"run_dir={study}/trials/0002" in run.stdout.splitlines()[-1]
    best = hpo("nodule_det.hpo.show", f"study={study}")
    assert "state: complete" in best.stdout
    missing = hpo("nodule_det.hpo.show", f"study={study}", "trial=99", code=1)
    assert missing.stderr.startswith("error: trial=99 is not in this study, which has 1 to")


def test_show_finds_the_job_of_a_trial_whose_first_one_the_journal_has_lost(study):
    copy = study
    (copy / "trials/0002/attempt_1").rename(copy / "trials/0002/attempt_2")
    text = (copy / "journal.jsonl").read_text()
    lost = "\n".join(
        line.replace('"attempt": 1', '"attempt": 2') if '"trial": 2,' in line else line
        for line in text.split("\n")
    )
    (copy / "journal.jsonl").write_text(lost)
    shown = hpo("nodule_det.hpo.show", f"study={copy}", "trial=2").stdout
    assert "run_dir=" in shown.splitlines()[-1]
