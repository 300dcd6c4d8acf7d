import re
import subprocess
import sys

from tests.hpo.command_line import hpo, tune


def test_status_needs_no_torch_and_shows_every_trial(study):
    code = (
        "import sys; sys.argv = ['status', sys.argv[1]]\n"
        "from nodule_det.hpo.status import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'monai', 'botorch'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-c", code, f"study={study}"]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    header = run.stdout.splitlines()[0].split()
    assert header[:4] == ["trial", "state", "pAUC", "run"]
    assert header[-3:] == ["copies", "shift_vox", "rotate"]
    assert "no driver" in run.stdout


def test_a_folder_without_a_study_is_named(tmp_path):
    run = hpo("nodule_det.hpo.status", f"study={tmp_path}", code=1)
    assert "journal.jsonl does not exist: this folder is not a study" in run.stderr


def test_every_command_expands_the_home_folder(study, monkeypatch):
    monkeypatch.setenv("HOME", str(study.parent))
    assert "complete" in hpo("nodule_det.hpo.status", f'study="~/{study.name}"').stdout


def test_a_tuned_study_reports_the_trial_with_the_highest_expected_value(tmp_path, quick_training):
    study = tmp_path / "s"
    run = tune(study, quick_training, "workers=2", "trials=6", "acquisition.strategy=nei")
    (expected,) = re.findall(r"highest expected pAUC 0\.9\d+ \[.*\] in trial (\d)", run.stdout)
    line = f"in trial {expected}\n"
    assert line in hpo("nodule_det.hpo.status", f"study={study}").stdout
    assert line in hpo("nodule_det.hpo.show", f"study={study}").stdout
    assert line not in hpo("nodule_det.hpo.show", f"study={study}", "trial=1").stdout
