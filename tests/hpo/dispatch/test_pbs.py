"""The PBS client on recorded answers of real servers, replayed by a stand-in command."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind
from nodule_det.errors import DispatchError
from nodule_det.hpo.dispatch import job_script
from nodule_det.hpo.dispatch.base import Job, JobState, Refused, Unavailable
from nodule_det.hpo.dispatch.pbs import PbsDispatcher, read_reports
from nodule_det.hpo.dispatch.shell import Answer, user_name
from tests.hpo.dispatch.recordings import Recording, read_recordings

QUEUED, RUNNING, GONE = JobState.QUEUED, JobState.RUNNING, JobState.GONE
STANDIN = Path(__file__).parents[2] / "bin" / "pbs"
JOB = Job("run-7f3a-12", Path("/study/trials/0001/attempt_1"))


@pytest.fixture
def pbs():
    config = DispatcherConfig(kind=DispatcherKind.pbs, timeout_s=5)
    return PbsDispatcher(config, job_script())


def states(reports):
    return {job_id: report.state for job_id, report in reports.items()}


def reports_in(recording):
    answer = Answer(("qstat",), recording.code, recording.stdout, recording.stderr)
    return dict(read_reports(answer))


HISTORY_OFF = "openpbs-recorded/03-qstat-history-off.md"
HISTORY_ON = "openpbs-recorded/06-qstat-history-on.md"
DOWN = "openpbs-recorded/09-server-down.md"
NO_MOM = Recording("", 222, "", "qdel: Server could not connect to MOM 149.pbs01\n")  # recorded
WRAPPER = "slurm-torque-wrappers-recorded.md"


@pytest.mark.parametrize(
    ("file", "command", "ids", "expected"),
    [
        (
            HISTORY_OFF,
            "qstat 51.pbs01 52.pbs01 53.pbs01",
            ["51.pbs01", "52.pbs01", "53.pbs01"],
            [GONE, RUNNING, QUEUED],
        ),
        (
            HISTORY_OFF,
            "qstat 52.pbs01 53.pbs01 999999",
            ["52.pbs01", "53.pbs01", "999999.pbs01"],
            [RUNNING, QUEUED, GONE],
        ),
        (
            HISTORY_ON,
            "qstat 104.pbs01 105.pbs01 106.pbs01 999999; echo rc=$?",
            ["104.pbs01", "105.pbs01", "106.pbs01", "999999.pbs01"],
            [GONE, RUNNING, QUEUED, GONE],
        ),
        (
            HISTORY_ON,
            "qstat -f 104.pbs01 105.pbs01 106.pbs01 999999 > o.txt; echo rc=$?; "
            "grep -E '^Job Id|job_state' o.txt",
            ["104.pbs01", "105.pbs01", "106.pbs01", "999999.pbs01"],
            [GONE, RUNNING, QUEUED, GONE],
        ),
        (WRAPPER, "qstat 28 29 6 2", ["28", "29", "6", "2"], [RUNNING, QUEUED, GONE, GONE]),
        (WRAPPER, "qstat -f 28 6 999999", ["28", "6"], [RUNNING, GONE]),
        (
            HISTORY_OFF,
            "qstat -u researcher",
            ["16.pbs01", "34.pbs01", "52.pbs01", "53.pbs01"],
            [QUEUED, QUEUED, RUNNING, QUEUED],
        ),
        (
            WRAPPER,
            "qstat -u researcher | tail -5",
            ["26", "27", "16", "28", "29"],
            [GONE, GONE, GONE, RUNNING, QUEUED],
        ),
    ],
)
def test_a_recorded_answer_is_parsed(recorded, file, command, ids, expected):
    numbers = [job_id.split(".")[0] for job_id in ids]
    assert states(reports_in(recorded(file, command))) == dict(zip(numbers, expected, strict=True))


def test_a_server_is_identified_by_its_full_name(pbs, replay):
    # the table of `qstat -B` shows 15 letters of it
    name = "pbs-server-of-cluster-b.example.org"
    replay("qstat", Recording("", 0, f"Server: {name}\n    server_state = Active\n", ""))
    assert pbs.place() == name


def test_a_server_that_is_down_has_no_name(pbs, replay, recorded):
    replay("qstat", recorded(DOWN, "qstat 149.pbs01; echo rc=$?"))
    assert pbs.place() == ""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("12.pbs01", "12.pbs01", True),
        ("12.pbs01", "12", True),
        ("12.pbs01", "12.PBS01.cluster.example.org", True),
        ("12.pbs01", "13.pbs01", False),
        ("12.pbs-server-name-a", "12.pbs-server-name-b", False),
        ("12.a.example.org", "12.b.example.org", False),
    ],
)
def test_ids_are_compared_by_number_and_server(one, other, same):
    assert PbsDispatcher.same_job(one, other) is PbsDispatcher.same_job(other, one) is same


def test_the_whole_record_of_a_job_is_read(recorded):
    report = reports_in(recorded(HISTORY_OFF, "qstat -f 52.pbs01"))["52"]
    assert report.state is RUNNING
    assert report.comment == "Job run at Mon Nov 23 at 02:29 on (pbs01:ncpus=1)"


def test_a_value_that_looks_like_an_attribute_is_not_one(recorded):
    grepped = recorded(
        "openpbs-recorded/11-odds-and-ends.md",
        "qstat -f 341.pbs01 | grep -nE 'job_state|Exit_status|MSG'; qstat -f 341.pbs01 | cat -A "
        "| grep -nE 'job_state|Exit_status|MSG'; qdel 341.pbs01",
    )
    lines = [line.split(":", 1)[1] for line in grepped.stdout.splitlines()[:5]]
    lines.insert(1, "    Variable_List = PBS_O_HOME=/home/researcher,")
    answer = Recording("", 0, "\n".join(["Job Id: 341.pbs01", *lines]) + "\n", "")
    assert lines[3] == "    job_state = F"  # the trap: it is part of a variable's value
    assert states(reports_in(answer)) == {"341": QUEUED}


def test_a_job_that_can_never_run_is_recognised():
    text = (
        "Job Id: 34.pbs01\n    Job_Name = toobig\n    job_state = Q\n"
        "    comment = Can Never Run: Insufficient amount of resource: ncpus (R: 64 A: 4 T\n"
        "\t: 4)\n\n"
    )
    report = reports_in(Recording("", 0, text, ""))["34"]
    assert report.never_runs
    assert report.comment.endswith("ncpus (R: 64 A: 4 T: 4)")


@pytest.mark.parametrize(
    ("words", "comment"),
    [
        (  # recorded from OpenPBS 23.06.06: a job submitted with -h, and one held by the server
            "Job Id: 54.pbs01\n    job_state = H\n    queue = workq\n    Hold_Types = u\n",
            "",
        ),
        (
            "Job Id: 54.pbs01\n    job_state = H\n    queue = workq\n    Hold_Types = so\n",
            "Hold_Types=so",
        ),
        (
            "Job Id: 54.pbs01\n    job_state = H\n    Hold_Types = s\n"
            "    comment = job held, too many failed attempts to run\n",
            "job held, too many failed attempts to run",
        ),
        (
            "54.pbs01          nd-f96f59-1-1    radiology                0 H workq           ",
            "",
        ),
    ],
)
def test_a_held_job_is_recognised(words, comment):
    report = reports_in(Recording("", 0, words, ""))["54"]
    assert (report.state, report.held, report.comment) == (QUEUED, True, comment)


@pytest.mark.parametrize(
    ("file", "command"),
    [
        (DOWN, "qstat 149.pbs01; echo rc=$?"),
        (DOWN, "qstat -f 149.pbs01 150.pbs01; echo rc=$?"),
        (WRAPPER, "timeout 60 qstat; echo rc=$?"),
    ],
)
def test_a_server_that_is_down_gives_no_report_on_jobs(pbs, replay, recorded, file, command):
    replay("qstat", recorded(file, command))
    with pytest.raises(Unavailable, match=r"qstat -u \S+ exited with code \d+"):
        pbs.poll(["149.pbs01", "150.pbs01"])


@pytest.mark.parametrize(
    "stderr",
    [
        "qstat: Invalid credential",
        "pbs_iff: cannot connect to host\nauth: error returned: -1\nauth: Unable to authenticate "
        "connection (pbs01:15001)\nqstat: cannot connect to server pbs01 (errno=-1)",  # recorded
        "qstat: Unknown Host.",
        "qstat: something that no version of PBS says yet",
    ],
)
def test_an_error_that_is_not_about_a_job_gives_no_report_on_jobs(pbs, replay, stderr):
    replay("qstat", Recording("", 255, "", stderr + "\n"))
    with pytest.raises(Unavailable):
        pbs.poll(["149.pbs01"])


def listed(*lines):
    head = "\npbs01: \n" + "Job ID          Username Queue    Jobname\n" + "-" * 15 + "\n"
    line = "{}        researc* workq    short.sh      --    1   1    --    --  {}   -- \n"
    return Recording("", 0, head + "".join(line.format(*words) for words in lines), "")


def test_a_job_that_is_missing_from_the_list_is_queried_by_its_id(pbs, replay, recorded):
    unknown = recorded(HISTORY_OFF, "qstat 999999")
    asked = replay("qstat", listed(("52.pbs01", "R")), unknown, listed(("52.pbs01", "R")))
    ids = ["52.pbs01", "999999.pbs01"]
    assert states(pbs.poll(ids)) == {"52.pbs01": RUNNING}
    assert states(pbs.poll(ids)) == {"52.pbs01": RUNNING, "999999.pbs01": GONE}
    assert states(pbs.poll(ids)) == {"52.pbs01": RUNNING, "999999.pbs01": GONE}
    assert [line.split()[:2] for line in asked.read_text().splitlines()] == [
        ["-u", user_name()],
        ["-f", "999999.pbs01"],
        ["-u", user_name()],
    ]


def test_a_job_that_another_server_has_taken_is_missing_from_the_list_but_not_gone(pbs, replay):
    moved = Recording("", 0, "Job Id: 53.pbs01\n    job_state = Q\n    server = pbs02\n", "")
    replay("qstat", listed(), moved, listed(), moved)
    for _ in range(2):
        assert pbs.poll(["53.pbs01"]) == {}
        assert states(pbs.poll(["53.pbs01"])) == {"53.pbs01": QUEUED}


# Torque 6.1 and a customised PBS Professional, after their documentation and users' public posts;
# not recorded here.
TORQUE = Recording(
    "",
    0,
    "\nheadnode.example.org: \n"
    "                                                                                  Req'd"
    "       Req'd       Elap\n"
    "Job ID                  Username    Queue    Jobname          SessID  NDS   TSK   Memory"
    "      Time    S   Time\n"
    "----------------------- ----------- -------- ---------------- ------ ----- ------ ---------"
    " --------- - ---------\n"
    "12345.headnode.exampl   researcher  batch    nd-f96f59-1-1      4242     1      1       --"
    "   01:00:00 R  00:05:10\n"
    "12346.headnode.exampl   researcher  batch    nd-f96f59-2-1       --      1      1       --"
    "   01:00:00 Q       -- \n"
    "12347.headnode.exampl   researcher  batch    nd-f96f59-3-1      4240     1      1       --"
    "   01:00:00 C       -- \n",
    "",
)
MORE_COLUMNS = Recording(
    "",
    0,
    "                                              Req'd    Elap\n"
    "JobID          User    Queue Jobname       TSK Nds wallt S wallt Eff Wait\n"
    "-------------- ------- ----- ------------- --- --- ----- - ----- --- -----\n"
    "869875.pbspl1  zsmith  v100  nd-f96f59-1-1   9   1 24:00 R 02:31 92% 00:10\n"
    "869876.pbspl1  zsmith  v100  nd-f96f59-2-1   9   1 24:00 Q 03:12  -- 03:12\n",
    "",
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (TORQUE, {"12345": RUNNING, "12346": QUEUED, "12347": GONE}),
        (MORE_COLUMNS, {"869875": RUNNING, "869876": QUEUED}),
    ],
)
def test_the_tables_of_other_versions_are_parsed(answer, expected):
    assert states(reports_in(answer)) == expected


def test_torque_words_an_unknown_job_and_the_deletion_of_an_ended_one_differently(pbs, replay):
    unknown = Recording("", 153, "", "qstat: Unknown Job Id Error 12345.headnode.example.org\n")
    replay("qstat", listed(), unknown)
    assert pbs.poll(["12345.headnode.example.org"]) == {}
    assert set(states(pbs.poll(["12345.headnode.example.org"])).values()) == {GONE}
    replay(
        "qdel",
        Recording("", 170, "", "qdel: Request invalid for state of job MSG=invalid state for job "
                  "- COMPLETE 12345.headnode.example.org\n"),
        Recording("", 153, "", "qdel: Unknown Job Id Error 12345.headnode.example.org\n"),
    )  # fmt: skip
    assert pbs.cancel(["12345.headnode.example.org"]) == ""
    assert pbs.cancel(["12345.headnode.example.org"]) == ""


def test_a_name_is_queried_where_qselect_knows_no_history(pbs, replay):
    usage = "qselect: invalid option -- 'x'\nusage: qselect [-a [op]date_time] [-A account_string]"
    asked = replay("qselect", Recording("", 2, "", usage), Recording("", 0, "12345.headnode\n", ""))
    replay("qstat", Recording("", 0, "Job Id: 12345.headnode\n    job_state = Q\n", ""))
    assert pbs.find(JOB) == "12345.headnode"
    assert len(asked.read_text().splitlines()) == 2


def test_slurms_wrapper_reports_an_unknown_job_only_by_exit_code_153(pbs, replay, recorded):
    replay("qstat", listed(), recorded(WRAPPER, "qstat 999999; echo rc=$?"))
    assert pbs.poll(["999999"]) == {}
    assert states(pbs.poll(["999999"])) == {"999999": GONE}


def test_empty_answers_change_nothing_and_are_reported(pbs, replay):
    replay("qstat", Recording("", 0, "", ""))
    assert pbs.poll(["7.pbs01"]) == {}
    with pytest.raises(Unavailable, match=r"answer does not mention job 7.pbs01"):
        pbs.poll(["7.pbs01"])


@pytest.mark.parametrize("n", [1, 16, 128])
def test_a_poll_opens_one_connection_for_any_number_of_jobs(pbs, pbs_standin, n):
    (pbs_standin / "hold").touch()
    ids = [f"{number}.pbs01" for number in range(1, n + 1)]
    job = {"name": "nd", "user": user_name(), "variables": "NODULE_JOB=/s", "log": "", "script": ""}

    def all_are(state):
        for number, job_id in enumerate(ids, 1):
            known = job | {"number": number, "id": job_id, "pid": 1, "state": state}
            (pbs_standin / f"{number:05d}.job").write_text(json.dumps(known))

    all_are("H")
    assert {r.held for r in pbs.poll(ids).values()} == {True}
    pbs.poll(ids)
    all_are("F")
    polls = 3
    while list(states(pbs.poll(ids)).values()) != [JobState.GONE] * n:
        polls += 1
    assert len((pbs_standin / "connections").read_text().splitlines()) == polls <= 9


def test_jobs_of_a_queue_on_another_server_are_listed_there(replay):
    config = DispatcherConfig(kind=DispatcherKind.pbs, queue="v100@pbspl4", timeout_s=5)
    pbs = PbsDispatcher(config, job_script())
    assert " -q v100@pbspl4 " in pbs.preview(JOB)
    asked = replay("qstat", listed(("52.pbspl4", "R")))
    assert states(pbs.poll(["52.pbspl4"])) == {"52.pbspl4": RUNNING}
    assert asked.read_text() == f"-u {user_name()} @pbspl4\n"


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("qsub -q nosuchq short.sh", Refused, "exited with code 170: qsub: Unknown queue"),
        ("qsub -l select=1:nosuchres=1 short.sh", Refused, "Unknown resource: nosuchres"),
        ("qsub -l walltime=banana short.sh", Refused, "Illegal attribute or resource value"),
        ("# cd /home/researcher/t && qsub short.sh", Refused, "Bad UID"),
        ("qsub -z short.sh", Unavailable, "exited with code 0: no output"),
    ],
)
def test_a_permanent_refusal_is_distinguished_from_a_temporary_one(
    pbs, replay, recorded, command, error, words
):
    command = command.removeprefix("# ")
    replay("qsub", recorded("openpbs-recorded/01-qsub.md", command))
    with pytest.raises(DispatchError, match=words) as caught:
        pbs.submit(JOB)
    assert caught.type is error


@pytest.mark.parametrize(
    ("file", "command"),
    [
        (DOWN, "qsub short.sh; echo rc=$?"),
        ("openpbs-recorded/08-limits-queue-states.md", "qsub short.sh; echo rc=$?"),
        (
            "openpbs-recorded/08-limits-queue-states.md",
            "qsub -h -l select=1:ncpus=3 short.sh; echo rc=$?",
        ),
        (WRAPPER, "timeout 60 qsub short.sh; echo rc=$?"),
    ],
)
def test_a_limit_a_closed_queue_and_an_unreachable_server_are_temporary(
    pbs, replay, recorded, file, command
):
    replay("qsub", recorded(file, command))
    with pytest.raises(Unavailable):
        pbs.submit(JOB)


@pytest.mark.parametrize(
    "words",
    [
        "qsub: Maximum number of jobs already in queue",  # recorded from OpenPBS 23.06.06
        "Communication failure.\nqsub: cannot connect to server pbs01 (errno=15031)",  # so as well
        "qsub: Request not allowed: Server shutting down",  # the rest from its table of errors
        "qsub: PBS server internal error",
        "qsub: No free connections",
        "qsub: Expired credential",
        "qsub: Invalid credential",
        "qsub: Failed to recv data from background qsub",
        "qsub: Failed to receive data from background qsub",
        "No reserved ports available\nqsub: reserved ports in use",
        "pbs_iff: cannot connect to host\nauth: error returned: -1\nauth: Unable to authenticate "
        "connection (pbs01:15001)\nqsub: cannot connect to server pbs01 (errno=-1)",
        "qsub: Failed to save job/resv, refer server logs for details",
    ],
)
def test_a_full_or_failing_server_is_queried_again(pbs, replay, words):
    replay("qsub", Recording("", 198, "", words + "\n"))
    with pytest.raises(Unavailable):
        pbs.submit(JOB)


TEMPORARY_CODES = {38, 39, 162, 173, 255}
"""Limits of a user, a server that is down, a closed queue; PBS codes modulo 256."""


def test_every_recorded_refusal_of_qsub_is_temporary_or_permanent(pbs, shared, monkeypatch):
    names = ("01-qsub", "02-qsub-v-env", "08-limits-queue-states", DOWN[17:-3], "11-odds-and-ends")
    answers = {
        (recording.code, recording.stderr)
        for name in names
        for recording in read_recordings(shared / "pbs/openpbs-recorded" / f"{name}.md").values()
        if recording.stderr.startswith(("qsub: ", "Connection refused\nqsub: "))
    }
    answers |= {(187, "qsub: Unknown resource Resource_List.ngpus\n")}  # 12, several nodes
    assert len(answers) > 20
    for code, stderr in answers:
        answer = Answer(("qsub",), code, "", stderr)
        monkeypatch.setattr(pbs, "_ask", lambda words, answer=answer: answer)
        with pytest.raises(Unavailable if code in TEMPORARY_CODES else Refused):
            pbs.submit(JOB)


def test_a_job_that_was_given_up_with_its_node_is_gone(pbs, replay):
    # 12, several nodes: F after node_fail_requeue, Exit_status -20, while its processes live on
    ended = "Job Id: 149.pbs01\n    job_state = F\n    substate = 93\n    Exit_status = -20\n\n"
    finished = "149.pbs01 Job has finished, use -x or -H to obtain historical job information"
    replay("qstat", listed(), Recording("", 35, "", f"qstat: {finished}\n"))
    assert pbs.poll(["149.pbs01"]) == {}
    assert states(pbs.poll(["149.pbs01"])) == {"149.pbs01": GONE}
    assert states({"149": reports_in(Recording("", 0, ended, ""))["149"]}) == {"149": GONE}


def test_the_id_is_the_last_line_that_looks_like_one(pbs, replay):
    replay("qsub", Recording("", 0, "Welcome to pbs01\n12 jobs wait\n1234.pbs01\nbye\n", ""))
    assert pbs.submit(JOB) == "1234.pbs01"


def test_a_job_is_found_with_history_and_without(pbs, replay, recorded):
    both = recorded(
        "openpbs-recorded/11-odds-and-ends.md",
        "qselect -N run-7f3a-12; qselect -N run-7f3a-99; echo rc=$?; qselect -x -N run-7f3a-13; "
        "qselect -N run-7f3a-13; echo rc=$?",
    )
    assert both.stdout.startswith("357.pbs01")
    off = recorded(HISTORY_OFF, "qselect -x")
    asked = replay("qselect", off, Recording("", 0, "357.pbs01\n", ""))
    replay("qstat", record_of("357.pbs01", JOB.folder))
    assert pbs.find(JOB) == "357.pbs01"
    mine = f"-u {user_name()} -N run-7f3a-12\n"
    assert asked.read_text() == f"-x {mine}{mine}"


def record_of(job_id, folder):
    """Answer as `qstat -f` does, which wraps long values."""
    variables = f"PBS_O_HOME=/home/researcher,PBS_O_LOGNAME=researcher,\n\tNODULE_JOB={folder},X=1"
    text = f"Job Id: {job_id}\n    Job_Name = run-7f3a-12\n    Variable_List = {variables}\n"
    return Recording("", 0, text + "    job_state = Q\n", "")


def test_a_job_with_the_same_name_but_another_folder_belongs_to_a_copied_study(pbs, replay):
    replay("qselect", Recording("", 0, "357.pbs01\n358.pbs01\n", ""))
    replay("qstat", record_of("357.pbs01", "/copy/1"), record_of("358.pbs01", JOB.folder))
    assert pbs.find(JOB) == "358.pbs01"


def test_a_job_whose_variables_are_hidden_is_identified_by_its_name(pbs, replay):
    replay("qselect", Recording("", 0, "357.pbs01\n", ""))
    replay("qstat", Recording("", 0, "Job Id: 357.pbs01\n    job_state = Q\n", ""))
    assert pbs.find(JOB) == "357.pbs01"


def test_an_unknown_name_is_not_a_job(pbs, replay):
    replay("qselect", Recording("", 0, "", ""))
    assert pbs.find(JOB) is None


def test_a_server_that_is_down_does_not_make_a_job_unknown(pbs, replay, recorded):
    replay("qselect", recorded(DOWN, "qselect; echo rc=$?"))
    with pytest.raises(Unavailable, match="cannot connect to server"):
        pbs.find(JOB)


@pytest.fixture
def no_qselect(tmp_path, monkeypatch):
    """Leave the commands of the replay on the PATH, and no qselect."""
    for name in ("cat", "basename"):
        (tmp_path / name).symlink_to(shutil.which(name))
    return lambda: monkeypatch.setenv("PATH", str(tmp_path))


def test_a_slurm_without_jobs_is_not_unavailable(pbs, replay, recorded, no_qselect):
    nothing = recorded(WRAPPER, "qstat 999999; echo rc=$?")
    assert (nothing.code, nothing.stdout.strip(), nothing.stderr) == (153, "", "")
    asked = replay("qstat", nothing)
    no_qselect()
    assert pbs.find(JOB) is None
    assert asked.read_text() == "-f\n"


def test_an_unavailable_slurm_does_not_make_a_job_unknown(pbs, replay, recorded, no_qselect):
    replay("qstat", recorded(WRAPPER, "timeout 60 qstat; echo rc=$?"))
    no_qselect()
    with pytest.raises(Unavailable, match="Problem loading jobs"):
        pbs.find(JOB)


@pytest.mark.parametrize(
    "command", ["qdel 91.pbs01; echo rc=$?", "qdel 92.pbs01 999999 91.pbs01 93.pbs01; echo rc=$?"]
)
def test_deleting_an_ended_job_is_not_an_error(pbs, replay, recorded, command):
    replay("qdel", recorded("openpbs-recorded/05-limits-signals-qdel.md", command))
    assert pbs.cancel(["91.pbs01"]) == ""


def test_a_refused_deletion_is_reported_with_a_remedy(pbs, replay, recorded):
    replay("qdel", recorded(DOWN, "qdel 149.pbs01; echo rc=$?"), NO_MOM)
    with pytest.raises(Unavailable):
        pbs.cancel(["149.pbs01"])
    assert pbs.cancel(["148.pbs01", "149.pbs01"]) == (
        "qdel: Server could not connect to MOM 149.pbs01; if the node of such a job will "
        "not return, end it by hand: qdel -W force 149.pbs01"
    )


def test_deleting_while_the_server_is_down_is_retried(pbs, replay, recorded):
    replay("qdel", recorded(DOWN, "qdel 149.pbs01; echo rc=$?"))
    with pytest.raises(Unavailable):
        pbs.cancel(["149.pbs01"])


def test_slurms_wrapper_gets_all_resources_in_one_option():
    config = DispatcherConfig(kind=DispatcherKind.pbs, walltime_s=3700, join_resources=True)
    words = PbsDispatcher(config, Path("/s.sh")).preview(JOB)
    assert "-l select=1:ncpus=1,walltime=01:01:40 " in words
    apart = DispatcherConfig(kind=DispatcherKind.pbs, walltime_s=3700, queue="h-regular")
    words = PbsDispatcher(apart, Path("/s.sh")).preview(JOB)
    assert "-q h-regular -l select=1:ncpus=1 -l walltime=01:01:40 " in words
    assert words.endswith("-v NODULE_JOB=/study/trials/0001/attempt_1 /s.sh")


@pytest.mark.parametrize(
    ("submit_args", "variables", "rest"),
    [
        (["-v", "X=1"], "X=1", []),
        (["-vX=1", "-P", "g", "-v", "Y=2,Z"], "X=1,Y=2,Z", ["-P", "g"]),
        (["-V", "-W", "group_list=v"], "", ["-V", "-W", "group_list=v"]),
        (["-v"], "", []),
    ],
)
def test_variables_of_the_settings_are_merged_with_ours_in_one_option(submit_args, variables, rest):
    # OpenPBS heeds the last -v alone.
    config = DispatcherConfig(kind=DispatcherKind.pbs, submit_args=submit_args)
    words = shlex.split(PbsDispatcher(config, Path("/s.sh")).preview(JOB))
    assert words.count("-v") == 1
    ours = f"NODULE_JOB={JOB.folder}"
    assert words[-3:] == ["-v", f"{ours},{variables}" if variables else ours, "/s.sh"]
    assert words[1 : 1 + len(rest)] == rest


def test_resources_of_the_settings_are_merged_with_ours_if_only_one_option_counts():
    config = DispatcherConfig(
        kind=DispatcherKind.pbs, join_resources=True, submit_args=["-l", "mem=4gb", "-lncpus=2"]
    )
    words = shlex.split(PbsDispatcher(config, Path("/s.sh")).preview(JOB))
    assert words.count("-l") == 1
    assert "select=1:ncpus=1,mem=4gb,ncpus=2" in words


@pytest.mark.parametrize(
    "words",
    [
        "qstat: Unknown Job Id ",
        " Job has finished, use -x or -H to obtain historical job information",
        "qselect: PBS is not configured to maintain job history",
        "cannot connect to server pbs01 (errno=15010)",
        "Couldn't connect to cluster: pbs01",
        "qsub: would exceed queue generic's per-user limit",
        "qsub: Unknown resource: ngpus",
        "qsub: Unknown queue",
        "qdel: Job has finished ",
        "Job id            Name             User              Time Use S Queue",
        "Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time",
        "qdel: Server could not connect to MOM ",
        "    comment = Job run at Mon Nov 23 at 02:29 on (pbs01:ncpus=1)",
    ],
)
def test_the_stand_in_answers_as_recorded(shared, words):
    standin = (STANDIN / "standin.py").read_text(encoding="utf-8")
    folder = shared / "pbs" / "openpbs-recorded"
    assert any(words in p.read_text(encoding="utf-8") for p in folder.glob("*.md"))
    spoken = words.removeprefix("qstat: ").removeprefix("    comment = ").split(" to server")[0]
    assert spoken.split("use -x")[0].strip() in standin
