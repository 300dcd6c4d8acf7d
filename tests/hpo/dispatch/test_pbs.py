"""The PBS client against the recorded words of real servers, replayed by a stand-in command."""

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind
from nodule_det.errors import DispatchError
from nodule_det.hpo.dispatch import job_script
from nodule_det.hpo.dispatch.base import Job, JobState, Refused, Unavailable
from nodule_det.hpo.dispatch.pbs import PbsDispatcher
from nodule_det.hpo.dispatch.shell import ask
from tests.hpo.dispatch.recordings import Recording

QUEUED, RUNNING, GONE = JobState.QUEUED, JobState.RUNNING, JobState.GONE
STANDIN = Path(__file__).parents[2] / "bin" / "pbs"
JOB = Job("run-7f3a-12", Path("/study/trials/0001/attempt_1"))


@pytest.fixture
def pbs():
    config = DispatcherConfig(kind=DispatcherKind.pbs, timeout_s=5)
    return PbsDispatcher(config, job_script())


def states(reports):
    return {job_id: report.state for job_id, report in reports.items()}


HISTORY_OFF = "openpbs-recorded/03-qstat-history-off.md"
HISTORY_ON = "openpbs-recorded/06-qstat-history-on.md"
DOWN = "openpbs-recorded/09-server-down.md"
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
    ],
)
def test_a_recorded_answer_is_understood(pbs, replay, recorded, file, command, ids, expected):
    replay("qstat", recorded(file, command))
    assert states(pbs.poll(ids)) == dict(zip(ids, expected, strict=True))


@pytest.mark.parametrize(
    ("file", "command", "name"),
    [(HISTORY_OFF, "qstat -B", "pbs01"), (DOWN, "qstat 149.pbs01; echo rc=$?", "")],
)
def test_a_server_is_known_by_its_name_unless_it_is_down(
    pbs, replay, recorded, file, command, name
):
    replay("qstat", recorded(file, command))
    assert pbs.place() == name


def test_the_whole_record_of_a_job_is_read(pbs, replay, recorded):
    replay("qstat", recorded(HISTORY_OFF, "qstat -f 52.pbs01"))
    report = pbs.poll(["52.pbs01"])["52.pbs01"]
    assert report.state is RUNNING
    assert report.comment == "Job run at Mon Nov 23 at 02:29 on (pbs01:ncpus=1)"


def test_a_value_that_looks_like_an_attribute_is_not_one(pbs, replay, recorded):
    grepped = recorded(
        "openpbs-recorded/11-odds-and-ends.md",
        "qstat -f 341.pbs01 | grep -nE 'job_state|Exit_status|MSG'; qstat -f 341.pbs01 | cat -A "
        "| grep -nE 'job_state|Exit_status|MSG'; qdel 341.pbs01",
    )
    lines = [line.split(":", 1)[1] for line in grepped.stdout.splitlines()[:5]]
    lines.insert(1, "    Variable_List = PBS_O_HOME=/home/researcher,")
    answer = Recording("", 0, "\n".join(["Job Id: 341.pbs01", *lines]) + "\n", "")
    replay("qstat", answer)
    assert lines[3] == "    job_state = F"  # the trap: it is part of a variable's value
    assert states(pbs.poll(["341.pbs01"])) == {"341.pbs01": QUEUED}


def test_a_job_that_can_never_run_is_told_apart(pbs, replay):
    text = (
        "Job Id: 34.pbs01\n    Job_Name = toobig\n    job_state = Q\n"
        "    comment = Can Never Run: Insufficient amount of resource: ncpus (R: 64 A: 4 T\n"
        "\t: 4)\n\n"
    )
    replay("qstat", Recording("", 0, text, ""))
    report = pbs.poll(["34.pbs01"])["34.pbs01"]
    assert report.never_runs
    assert report.comment.endswith("ncpus (R: 64 A: 4 T: 4)")


@pytest.mark.parametrize(
    ("words", "comment"),
    [
        (  # recorded from OpenPBS 23.06.06: a job submitted with -h, and one held by the server
            "Job Id: 54.pbs01\n    job_state = H\n    queue = workq\n    Hold_Types = u\n",
            "held by Hold_Types=u",
        ),
        (
            "Job Id: 54.pbs01\n    job_state = H\n    Hold_Types = s\n"
            "    comment = job held, too many failed attempts to run\n",
            "job held, too many failed attempts to run",
        ),
        (
            "54.pbs01          nd-f96f59-1-1    radiology                0 H workq           ",
            "held",
        ),
    ],
)
def test_a_held_job_is_told_apart(pbs, replay, words, comment):
    replay("qstat", Recording("", 0, words, ""))
    report = pbs.poll(["54.pbs01"])["54.pbs01"]
    assert (report.state, report.held, report.comment) == (QUEUED, True, comment)


@pytest.mark.parametrize(
    ("file", "command"),
    [
        (DOWN, "qstat 149.pbs01; echo rc=$?"),
        (DOWN, "qstat -f 149.pbs01 150.pbs01; echo rc=$?"),
        (WRAPPER, "timeout 60 qstat; echo rc=$?"),
    ],
)
def test_a_server_that_is_down_says_nothing_about_jobs(pbs, replay, recorded, file, command):
    replay("qstat", recorded(file, command))
    with pytest.raises(Unavailable, match=r"qstat -f 149\.pbs01 150\.pbs01 left with \d+"):
        pbs.poll(["149.pbs01", "150.pbs01"])


def test_an_id_that_is_not_mentioned_is_asked_for_alone(pbs, replay, recorded):
    several = recorded(WRAPPER, "qstat -f 28 6 999999")
    alone = recorded(WRAPPER, "qstat 999999; echo rc=$?")
    asked = replay("qstat", several, alone)
    assert states(pbs.poll(["28", "6", "999999"])) == {"28": RUNNING, "6": GONE, "999999": GONE}
    assert asked.read_text() == "-f 28 6 999999\n-f 999999\n"


def test_no_mention_without_an_error_changes_nothing(pbs, replay):
    replay("qstat", Recording("", 0, "", ""))
    assert pbs.poll(["7.pbs01"]) == {}


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("qsub -q nosuchq short.sh", Refused, "left with 170: qsub: Unknown queue"),
        ("qsub -l select=1:nosuchres=1 short.sh", Refused, "Unknown resource: nosuchres"),
        ("qsub -l walltime=banana short.sh", Refused, "Illegal attribute or resource value"),
        ("# cd /home/researcher/t && qsub short.sh", Refused, "Bad UID"),
        ("qsub -z short.sh", Unavailable, "left with 0: no word"),
    ],
)
def test_a_refusal_for_good_is_told_from_one_that_passes(
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
def test_a_limit_a_closed_queue_and_a_server_that_is_away_pass(
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
        "qsub: Failed to save job/resv, refer server logs for details",
    ],
)
def test_a_server_that_is_full_or_in_trouble_is_asked_again(pbs, replay, words):
    replay("qsub", Recording("", 198, "", words + "\n"))
    with pytest.raises(Unavailable):
        pbs.submit(JOB)


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
    assert pbs.find(JOB) == "357.pbs01"
    assert asked.read_text() == "-x -N run-7f3a-12\n-N run-7f3a-12\n"


def test_a_name_nobody_knows_is_no_job(pbs, replay):
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


def test_a_slurm_without_any_job_is_not_one_that_is_away(pbs, replay, recorded, no_qselect):
    nothing = recorded(WRAPPER, "qstat 999999; echo rc=$?")
    assert (nothing.code, nothing.stdout.strip(), nothing.stderr) == (153, "", "")
    asked = replay("qstat", nothing)
    no_qselect()
    assert pbs.find(JOB) is None
    assert asked.read_text() == "-f\n"


def test_a_slurm_that_is_away_does_not_make_a_job_unknown(pbs, replay, recorded, no_qselect):
    replay("qstat", recorded(WRAPPER, "timeout 60 qstat; echo rc=$?"))
    no_qselect()
    with pytest.raises(Unavailable, match="Problem loading jobs"):
        pbs.find(JOB)


@pytest.mark.parametrize(
    "command", ["qdel 91.pbs01; echo rc=$?", "qdel 92.pbs01 999999 91.pbs01 93.pbs01; echo rc=$?"]
)
def test_deleting_what_is_over_is_no_error(pbs, replay, recorded, command):
    replay("qdel", recorded("openpbs-recorded/05-limits-signals-qdel.md", command))
    pbs.cancel(["91.pbs01"])


def test_deleting_while_the_server_is_down_is_tried_again(pbs, replay, recorded):
    replay("qdel", recorded(DOWN, "qdel 149.pbs01; echo rc=$?"))
    with pytest.raises(Unavailable):
        pbs.cancel(["149.pbs01"])


def test_a_frozen_server_is_given_up_after_the_time_limit():
    with pytest.raises(Unavailable, match=r"sleep 60 gave no answer in 0.05 s"):
        ask(["sleep", "60"], timeout_s=0.05)


def test_a_missing_command_is_no_passing_trouble():
    with pytest.raises(DispatchError, match="there is no command qsubb here") as caught:
        ask(["qsubb"], timeout_s=5)
    assert caught.type is DispatchError


def test_a_login_node_without_room_for_a_process_is_a_passing_trouble(monkeypatch):
    # A limit on processes does not bind root, under whom these tests run as well.
    def no_process(*args, **settings):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "run", no_process)
    with pytest.raises(Unavailable, match=r"qstat could not .* temporarily unavailable"):
        ask(["qstat"], timeout_s=5)


def test_slurms_wrapper_gets_all_resources_in_one_option():
    config = DispatcherConfig(kind=DispatcherKind.pbs, walltime_s=3700, join_resources=True)
    words = PbsDispatcher(config, Path("/s.sh")).preview(JOB)
    assert "-l select=1:ncpus=1,walltime=01:01:40 " in words
    apart = DispatcherConfig(kind=DispatcherKind.pbs, walltime_s=3700, queue="h-regular")
    words = PbsDispatcher(apart, Path("/s.sh")).preview(JOB)
    assert "-q h-regular -l select=1:ncpus=1 -l walltime=01:01:40 " in words
    assert words.endswith("-v NODULE_JOB=/study/trials/0001/attempt_1 /s.sh")


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
        "    comment = Job run at Mon Nov 23 at 02:29 on (pbs01:ncpus=1)",
    ],
)
def test_the_stand_in_speaks_in_recorded_words(shared, words):
    standin = (STANDIN / "standin.py").read_text(encoding="utf-8")
    folder = shared / "pbs" / "openpbs-recorded"
    assert any(words in p.read_text(encoding="utf-8") for p in folder.glob("*.md"))
    spoken = words.removeprefix("qstat: ").removeprefix("    comment = ").split(" to server")[0]
    assert spoken.split("use -x")[0].strip() in standin
