#!/usr/bin/env python3
"""A stand-in for a PBS server, for tests only: it answers in the words of a real OpenPBS 23.06.

Linked as qsub, qstat, qdel and qselect.  Jobs are processes; what is known of them lies in the
folder PBS_STANDIN, where these files change how it behaves:

    history   keep finished jobs, as with job_history_enable = True
    down      answer as if the server were stopped
    frozen    never answer
    lose      the next qsub does its work, but its answer is lost
    full      refuse qsub by a limit on queued jobs
    hold      qsub leaves its jobs held, until the file is removed and somebody asks
    empty     qstat answers nothing, successfully
    ports     the client finds no privileged port that is free
    credential  the server does not accept the client's credential
    background  qsub loses the process that talks to the server for it, after the job was made
    no_mom    the node of every job is down: qdel is refused, unless forced
    cut       the network to the nodes is cut: the server ends every running job with Exit_status
              -20 (node_fail_requeue), although its processes live on

Each connection that a real client would make is a line of the file `connections`: qstat makes one
for each id, everything else one in all.  Every message is copied from recordings of a real server;
nothing here is a measure of PBS.
"""

import fcntl
import itertools
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ["PBS_STANDIN"])
NAME = Path(sys.argv[0]).name
ARGS = sys.argv[1:]
USER = pwd.getpwuid(os.getuid()).pw_name
FULL = """Job Id: {id}
    Job_Name = {name}
    Job_Owner = researcher@pbs01
    job_state = {state}
    queue = workq
    server = pbs01
    Checkpoint = u
    Error_Path = pbs01:/home/researcher/t/short.sh.e52
    Rerunable = False
    Hold_Types = {hold}
    Resource_List.ncpus = 1
    Resource_List.select = 1:ncpus=1
    substate = 42
    Variable_List = PBS_O_HOME=/home/researcher,PBS_O_LOGNAME=researcher,
\tPBS_O_PATH=/opt/pbs/bin:/usr/bin:/bin,PBS_O_SHELL=/bin/bash,MSG=x
    job_state = F
    Exit_status = 0,NODULE_JOB={folder},PBS_O_HOST=pbs01
    comment = {comment}
    project = _pbs_project_default
    Submit_Host = pbs01

"""
HEAD = """Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
"""


def leave(code, stderr="", stdout=""):
    sys.stdout.write(stdout)
    sys.stderr.write(stderr)
    sys.exit(code)


def has(behaviour):
    return (HOME / behaviour).exists()


def jobs():
    """Read all jobs, after moving those whose process has ended."""
    found = [json.loads(p.read_text()) for p in sorted(HOME.glob("*.job"))]
    for job in found:
        if job["state"] == "R" and (has("cut") or not alive(job["pid"])):
            job["state"] = "F"
            save(job)
        elif job["state"] == "H" and not has("hold"):
            job |= {"state": "R", "pid": start(job)}
            save(job)
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def save(job):
    (HOME / f"{job['number']:05d}.job").write_text(json.dumps(job))


def find(word):
    number = word.split(".")[0]
    return next((j for j in jobs() if str(j["number"]) == number), None)


def start(job):
    environment = {"PATH": os.environ["PATH"], "HOME": str(HOME), "PBS_JOBID": job["id"]}
    environment |= {k: v for k, v in os.environ.items() if k == "QUICK_S"}
    environment |= dict(v.split("=", 1) for v in job["variables"].split(","))
    with open(job["log"], "ab") as log:
        return subprocess.Popen(
            ["bash", job["script"]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
            cwd=HOME,  # a PBS job starts in the user's home, not where qsub was called
        ).pid


def qsub():
    options = dict(itertools.pairwise(ARGS))  # of equal options the last counts, as for -v
    limits = [v for k, v in itertools.pairwise(ARGS) if k == "-l"]
    if any("ngpus" in limit for limit in limits):
        leave(187, "qsub: Unknown resource: ngpus\n")
    queue, _, server = options.get("-q", "workq").partition("@")
    if queue != "workq":
        leave(170, "qsub: Unknown queue\n")
    if has("full"):
        leave(38, "qsub: would exceed queue generic's per-user limit\n")
    number = len(list(HOME.glob("*.job"))) + 1
    job = {
        **{"number": number, "id": f"{number}.{server or 'pbs01'}", "name": options["-N"]},
        **{"user": os.environ.get("PBS_STANDIN_USER", USER), "variables": options["-v"]},
        **{"log": options["-o"], "script": ARGS[-1], "state": "H", "pid": 0},
    }
    if not has("hold"):
        job |= {"state": "R", "pid": start(job)}
    save(job)
    if has("lose"):
        (HOME / "lose").unlink()
        leave(255, "qsub: End of File\n")
    if has("background"):
        (HOME / "background").unlink()
        leave(1, "qsub: Failed to recv data from background qsub\n")
    leave(0, stdout=f"{job['id']}\n")


SERVER_FULL = """Server: pbs01
    server_state = Active
    server_host = pbs01
    scheduling = True

"""
LIST_HEAD = """
pbs01: 
                                                            Req'd  Req'd   Elap
Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time
--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----
"""  # noqa: W291
LIST = "{id:15.15} researc* workq    {name:10.10}  17316   1   1    --    --  {state} 00:00\n"


def at_server(job):
    server = next((w[1:] for w in ARGS if w.startswith("@")), "pbs01")
    return job["id"].endswith("." + server)


SERVER = (
    "Server             Max   Tot   Que   Run   Hld   Wat   Trn   Ext Status\n"
    "---------------- ----- ----- ----- ----- ----- ----- ----- ----- -----------\n"
    "pbs01                0     4     1     1     2     0     0     0 Active    \n\n"
)


def qstat():
    if ARGS[0] == "-B":
        leave(0, stdout=SERVER if ARGS == ["-B"] else SERVER_FULL)
    if has("empty"):
        leave(0)
    if ARGS[0] == "-u":
        listed = [j for j in jobs() if j["state"] != "F" and j["user"] == ARGS[1]]
        listed = [j for j in listed if at_server(j)]
        leave(0, stdout=LIST_HEAD + "".join(map(LIST.format_map, listed)) if listed else "")
    words = [w for w in ARGS if not w.startswith("-")]
    shown, code, stderr, table = [], 0, "", HEAD
    for word in words or [str(j["number"]) for j in jobs() if j["state"] != "F"]:
        job = find(word)
        full_id = f"{word.split('.')[0]}.pbs01"
        if job is None or (job["state"] == "F" and not has("history")):
            stderr, code = stderr + f"qstat: Unknown Job Id {full_id}\n", 153
            table = table if shown else ""  # a real server prints no header after a bad first id
        elif job["state"] == "F" and "-x" not in ARGS:
            stderr += (
                f"qstat: {full_id} Job has finished, use -x or -H to obtain historical job "
                "information\n"
            )
            code = 35
            table = table if shown else ""
        else:
            shown.append(job)
    stdout = table if shown else ""
    for job in shown:
        job_id = job["id"]
        comment = "Job run at Mon Nov 23 at 02:29 on (pbs01:ncpus=1)"
        if "-f" in ARGS:
            stdout = stdout.removeprefix(HEAD)
            folder = job["variables"].split(",")[0].removeprefix("NODULE_JOB=")
            hold = "u" if job["state"] == "H" else "n"
            known = {"id": job_id, "folder": folder, "hold": hold, "comment": comment}
            text = FULL.format_map(job | known)
            if job["state"] == "H":  # a real server has no comment on a hold of the user
                text = text.replace(f"    comment = {comment}\n", "")
            stdout += text
        else:
            stdout += f"{job_id:17} {job['name'][:16]:16} {'researcher':16} {'00:00:00':>8} "
            stdout += f"{job['state']} {'workq':16}\n"
    leave(code, stderr, stdout)


def qdel():
    code, stderr = 0, ""
    for word in [w for w in ARGS if w not in ("-W", "force")]:
        job = find(word)
        if job is None or (job["state"] == "F" and not has("history")):
            stderr, code = stderr + f"qdel: Unknown Job Id {word}\n", 153
        elif job["state"] == "F":
            stderr, code = stderr + f"qdel: Job has finished {word}\n", 35
        elif has("no_mom") and "force" not in ARGS:
            stderr, code = stderr + f"qdel: Server could not connect to MOM {word}\n", 222
        elif job["state"] == "H":
            save(job | {"state": "F"})
        else:
            os.killpg(job["pid"], signal.SIGTERM)
    leave(code, stderr)


def qselect():
    if "-x" in ARGS and not has("history"):
        leave(0, "qselect: PBS is not configured to maintain job history\n")
    wanted = ARGS[ARGS.index("-N") + 1]
    user = ARGS[ARGS.index("-u") + 1]
    seen = [j for j in jobs() if j["name"] == wanted and ("-x" in ARGS or j["state"] != "F")]
    leave(0, stdout="".join(f"{j['id']}\n" for j in seen if j["user"] == user))


def connect():
    """Note the connections of this command, and fail where none can be made."""
    ids = sum(w[0].isdigit() for w in ARGS) if NAME == "qstat" else 1
    with open(HOME / "connections", "a") as log:
        log.write(f"{NAME} {' '.join(ARGS)}\n" * max(1, ids))
    if has("ports"):
        lines = [
            "pbs_iff: cannot connect to host",
            "auth: error returned: -1",
            "auth: Unable to authenticate connection (pbs01:15001)",
            f"{NAME}: cannot connect to server pbs01 (errno=-1)",
        ]
        leave(255, "\n".join(lines) + "\n")
    if has("credential"):
        leave(171, f"{NAME}: Invalid credential\n")


if has("frozen"):
    time.sleep(600)
if has("down"):
    what = f"{NAME}: cannot connect to server pbs01 (errno=15010)"
    what = "Couldn't connect to cluster: pbs01" if NAME == "qdel" else what
    leave(255 if NAME == "qstat" else 162, f"Connection refused\n{what}\n")
with open(HOME / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    connect()
    {"qsub": qsub, "qstat": qstat, "qdel": qdel, "qselect": qselect}[NAME]()
