import pytest

from nodule_det.files import write_json
from nodule_det.hpo.dispatch.pbs import PbsDispatcher
from nodule_det.hpo.study.objective import PAUC, Constraint, Objective
from nodule_det.hpo.study.trial import Reason
from nodule_det.hpo.training.files import read_job
from nodule_det.hpo.training.outcome import put_away_failure, read_outcome
from nodule_det.runs import RunFolder, RunResult, RunStatus


def outcome(tmp_path, code=None, **result):
    attempt = tmp_path / "attempt_1"
    attempt.mkdir()
    (attempt / "claim").write_text("7.pbs node1 1000.5\n")
    if code is not None:
        (attempt / "exit_code").write_text(f"{code} 1060.5\n")
    if result:
        write_json(RunFolder(tmp_path).result, RunResult(**result).as_dict())
    return read_outcome(tmp_path, attempt, read_job(attempt), PbsDispatcher.explain, PAUC)


def read(tmp_path, comment=""):
    folder = tmp_path / "attempt_1"
    return read_outcome(tmp_path, folder, read_job(folder), PbsDispatcher.explain, PAUC, comment)


FAILED, STOPPED, RUNNING = RunStatus.FAILED, RunStatus.STOPPED, RunStatus.RUNNING


@pytest.mark.parametrize(
    ("code", "result", "reason"),
    [
        (0, {"status": RunStatus.COMPLETE, "pauc": 0.5}, None),
        (None, {"status": RunStatus.COMPLETE, "pauc": 0.5}, None),  # killed after its result
        (1, {"status": RunStatus.COMPLETE, "pauc": 0.5}, None),
        (85, {"status": STOPPED, "reason": "wall_clock"}, Reason.STOPPED),
        (None, {"status": STOPPED, "reason": "sigterm"}, Reason.STOPPED),
        (86, {"status": FAILED, "reason": "diverged"}, Reason.DIVERGED),
        (87, {"status": FAILED, "reason": "out_of_memory"}, Reason.OUT_OF_MEMORY),
        (None, {"status": FAILED, "reason": "out_of_memory"}, Reason.OUT_OF_MEMORY),
        (2, {}, Reason.BAD_INPUT),
        (89, {"status": RUNNING}, Reason.BUSY),
        (1, {"status": FAILED, "reason": "error"}, Reason.ERROR),
        (137, {"status": RUNNING}, Reason.KILLED),
        (None, {"status": RUNNING}, Reason.LOST),
        (None, {}, Reason.LOST),
        (0, {}, Reason.ERROR),
        (0, {"status": FAILED, "reason": "diverged"}, Reason.DIVERGED),  # of another program
        (1, {"status": FAILED, "reason": "out_of_memory"}, Reason.OUT_OF_MEMORY),
        (0, {"status": FAILED}, Reason.ERROR),
        (3, {"status": FAILED, "reason": "diverged"}, Reason.DIVERGED),
        (255, {"status": FAILED, "reason": "diverged"}, Reason.DIVERGED),
        (139, {"status": FAILED, "reason": "diverged"}, Reason.KILLED),
        (255, {}, Reason.ERROR),  # exit -1; there is no signal 127
        (192, {}, Reason.KILLED),  # the last real-time signal
    ],
)
def test_exit_code_and_result_show_how_a_job_ended(tmp_path, code, result, reason):
    assert outcome(tmp_path, code, **result).reason is reason


@pytest.mark.parametrize("status", [STOPPED, FAILED, RUNNING])
def test_a_job_that_never_began_is_lost_regardless_of_an_earlier_result(tmp_path, status):
    write_json(RunFolder(tmp_path).result, RunResult(status=status, reason="sigterm").as_dict())
    folder = tmp_path / "attempt_2"
    folder.mkdir()
    seen = read_outcome(tmp_path, folder, read_job(folder), PbsDispatcher.explain, PAUC)
    assert seen.reason is Reason.LOST
    assert seen.message.startswith(f"the job never found its folder: check that {folder} is")


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "error: dispatcher.setup failed with exit code 1 at: module load cuda\n",
            "dispatcher.setup failed with exit code 1 at: module load cuda",
        ),
        (
            "Traceback (most recent call last):\n  File ...\n"
            "ModuleNotFoundError: No module named 'nodule_det'\nbye\n",
            "ModuleNotFoundError: No module named 'nodule_det'",
        ),
        (
            "/j/job.sh: line 3: python: command not found\n",
            "/j/job.sh: line 3: python: command not found",
        ),
        ("error: one\nfatal ERROR: two\x1b[0m\n", "fatal ERROR: two?[0m"),
        ("epoch 1, error 0.5\n", "exit code 2; see {log}"),
    ],
)
def test_a_failure_without_a_message_is_explained_by_the_last_error_of_the_log(tmp_path, log, line):
    outcome(tmp_path, 2)
    (tmp_path / "attempt_1" / "job.log").write_text(log)
    seen = read(tmp_path)
    assert (seen.reason, seen.message) == (
        Reason.BAD_INPUT,
        line.format(log=tmp_path / "attempt_1" / "job.log"),
    )


def test_a_message_of_the_training_takes_precedence_over_its_log(tmp_path):
    outcome(tmp_path, 2, status=FAILED, reason="bad_input", message="no such store")
    (tmp_path / "attempt_1" / "job.log").write_text("error: something else\n")
    assert read(tmp_path).message == "no such store"


def test_the_progress_of_a_stopped_training_is_its_step_if_it_has_steps(tmp_path):
    assert outcome(tmp_path, 85, status=STOPPED, step=120).progress == "step 120"
    path = RunFolder(tmp_path).result
    write_json(path, {"status": "stopped", "step": 120, "n_scans_validated": 7})
    assert read(tmp_path).progress == "step 120, 7 scans validated"
    write_json(path, {"status": "stopped"})  # another program
    assert read(tmp_path).progress is None


def test_times_and_value_are_those_written_by_the_job(tmp_path):
    pulls = {"a1f": 0.01}
    seen = outcome(
        tmp_path, 0, status=RunStatus.COMPLETE, pauc=0.5, pauc_se=0.01, pauc_influence=pulls
    )
    assert (seen.started_s, seen.ended_s) == (1000.5, 1060.5)
    assert (seen.value, seen.value_se, seen.influence) == (0.5, 0.01, pulls)


@pytest.mark.parametrize(("code", "reason"), [(86, Reason.DIVERGED), (0, Reason.ERROR)])
def test_the_exit_code_counts_if_the_result_is_damaged(tmp_path, code, reason):
    RunFolder(tmp_path).result.write_text("{")
    seen = outcome(tmp_path, code)
    assert seen.reason is reason
    assert code or "result.json cannot be read: Expecting property name" in seen.message


def test_a_complete_result_with_an_impossible_value_is_an_error_that_names_it(tmp_path):
    seen = outcome(tmp_path, 0, status=RunStatus.COMPLETE, pauc=1.5)
    assert seen.reason is Reason.ERROR
    assert seen.message == "result.json has pauc=1.5 but expected a number from 0 to 1"


@pytest.mark.parametrize("text", ['"0.5"', "true", "[0.5]", "null"])
def test_a_value_of_another_type_is_shown_as_in_the_file(tmp_path, text):
    RunFolder(tmp_path).result.write_text(f'{{"status": "complete", "pauc": {text}}}')
    seen = outcome(tmp_path, 0)
    assert seen.message == f"result.json has pauc={text} but expected a number from 0 to 1"


def test_a_complete_result_that_is_not_a_number_has_diverged(tmp_path):
    """As json.dumps and most numerical libraries write it."""
    RunFolder(tmp_path).result.write_text('{"status": "complete", "pauc": NaN, "pauc_se": 0.1}')
    seen = outcome(tmp_path, 0)
    assert (seen.reason, seen.value, seen.value_se) == (Reason.DIVERGED, None, None)
    assert seen.message == "result.json has pauc=NaN, which counts as diverged"


def test_the_result_of_a_failed_attempt_is_not_mistaken_for_that_of_the_next(tmp_path):
    outcome(tmp_path, 1, status=FAILED, reason="error")
    put_away_failure(tmp_path, tmp_path / "attempt_1")
    assert not RunFolder(tmp_path).result.exists()
    assert (tmp_path / "attempt_1" / "result.json").exists()


PBS_WORDS = "=>> PBS: job killed: mem 379112kb exceeded limit 102400kb"
SLURM_WORDS = (
    "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch. Some of the step tasks have "
    "been OOM Killed."
)


@pytest.mark.parametrize("words", [PBS_WORDS, SLURM_WORDS, "Cgroup mem limit exceeded: job 7"])
@pytest.mark.parametrize("code", [None, 137, 143, 85])
def test_a_job_killed_for_its_memory_is_recognised_by_its_log(tmp_path, words, code):
    outcome(tmp_path, code, status=RUNNING)
    (tmp_path / "attempt_1" / "job.log").write_text(f"epoch 1 ...\n{words}\n")
    seen = read(tmp_path)
    assert seen.reason is Reason.OUT_OF_MEMORY
    assert seen.message == f"killed by the batch system: {words}"


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("OUT_OF_MEMORY OutOfMemory\nunknown\n", Reason.OUT_OF_MEMORY),
        (
            "Job run at Mon Nov 23 at 02:36 on (pbs01:mem=102400kb) and exceeded resource mem",
            Reason.OUT_OF_MEMORY,
        ),
        ("Job run at Mon Nov 23 at 02:33 on (pbs01) and exceeded resource walltime", Reason.LOST),
        ("NODE_FAIL None", Reason.LOST),
        ("", Reason.LOST),
    ],
)
def test_a_job_killed_for_its_memory_is_recognised_by_the_poll(tmp_path, comment, reason):
    outcome(tmp_path, status=RUNNING)
    assert read(tmp_path, comment).reason is reason


def test_a_log_line_about_memory_is_not_a_kill(tmp_path):
    outcome(tmp_path, 137, status=RUNNING)
    (tmp_path / "attempt_1" / "job.log").write_text("peak memory 3 GB, below the memory limit\n")
    assert read(tmp_path).reason is Reason.KILLED


@pytest.mark.parametrize(
    "words",
    [
        "=>> PBS: job killed: walltime 46 exceeded limit 12",  # recorded from OpenPBS 23.06.06
        "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-23T02:00:00 DUE TO TIME LIMIT ***",
    ],
)
def test_a_killed_job_is_explained_by_the_batch_system(tmp_path, words):
    outcome(tmp_path, 143, status=RUNNING)
    (tmp_path / "attempt_1" / "job.log").write_text(f"epoch 1 ...\n{words}\nTerminated\n")
    seen = read(tmp_path)
    assert (seen.reason, seen.message) == (Reason.KILLED, f"killed by signal 15: {words}")


def test_a_memory_message_does_not_undo_a_result(tmp_path):
    outcome(tmp_path, 0, status=RunStatus.COMPLETE, pauc=0.5)
    (tmp_path / "attempt_1" / "job.log").write_text(SLURM_WORDS)
    assert read(tmp_path).reason is None


LIMITED = Objective("score", constraints=(Constraint("seconds", high=30.0),))


def of(tmp_path, **result):
    folder = tmp_path / "attempt_1"
    folder.mkdir()
    (folder / "exit_code").write_text("0 1060.5\n")
    write_json(RunFolder(tmp_path).result, {"status": "complete", "score": 7, **result})
    return read_outcome(tmp_path, folder, read_job(folder), PbsDispatcher.explain, LIMITED)


def test_a_training_that_violates_a_constraint_is_complete_and_infeasible(tmp_path):
    seen = of(tmp_path, seconds=41)
    assert (seen.reason, seen.value, seen.violation) == (None, 7, "seconds=41 is above 30")


def test_a_training_within_its_constraints_is_feasible(tmp_path):
    assert of(tmp_path, seconds=30).violation == ""


def test_a_missing_number_of_a_constraint_fails_the_trial_with_file_field_and_remedy(tmp_path):
    seen = of(tmp_path)
    assert (seen.reason, seen.value, seen.violation) == (Reason.ERROR, None, "")
    assert seen.message == (
        f"{tmp_path}/result.json has seconds=null but constraints need a number; let the program "
        "report it, or start a study without this constraint"
    )
