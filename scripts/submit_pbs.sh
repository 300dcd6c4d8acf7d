#!/bin/bash
# Run one training as a batch job; used by the tuning driver, and by hand.
#
#   qsub -v NODULE_JOB=/path/to/folder scripts/submit_pbs.sh       PBS
#   sbatch scripts/submit_pbs.sh /path/to/folder                   Slurm
#   bash scripts/submit_pbs.sh /path/to/folder                     this machine
#
# The folder holds job.sh, whose last line starts the training with `exec`, for example
#   cd /home/me/nodule_det && exec python -m nodule_det.train store=stores/luna16 run_dir=runs/a
# The job writes its state into the folder, for the driver or the user:
#   claim       "JOB_ID HOST START", created only once, so that a job submitted twice runs once
#   heartbeat   the time, written every 20 s while the training runs
#   exit_code   "CODE END", written atomically; 85 = stopped, submit again to resume
# A folder is used for one run; to run it again, remove claim and exit_code.  The driver creates a
# file `abandoned` to end the training when it has continued the trial in another job.

umask 077
job=${1:-${NODULE_JOB:-}}
if [ ! -r "$job/job.sh" ]; then
    echo "error: no file job.sh in NODULE_JOB='$job'; see the head of submit_pbs.sh" >&2
    exit 2
fi
if [ "${2:-}" = local ]; then # distinguishes this process from a later one with the same PID
    id=$$-$(cut -d' ' -f22 "/proc/$$/stat")-$(cut -c1-8 /proc/sys/kernel/random/boot_id)
else # $2 names the variable in which the batch system passes the job id
    variable=${2:-PBS_JOBID}
    id=${!variable:-${SLURM_JOB_ID:-$HOSTNAME-$$}}
fi

# Creating a hard link is atomic, on network file systems as well.
own=$job/.claim.$HOSTNAME.$$
echo "$id $HOSTNAME $(date +%s.%3N)" >"$own" || exit 1
if ! ln "$own" "$job/claim" 2>/dev/null; then
    rm -f "$own"
    if [ ! -e "$job/claim" ]; then
        echo "error: no hard link could be made in $job; choose a file system that has them" >&2
        exit 2
    fi
    read -r owner _ <"$job/claim"
    if [ "$owner" != "$id" ]; then
        echo "job $owner already runs or ran $job; nothing to do for $id"
        exit 0
    fi
    # The batch system started the same job again.  After a node crash the job resumes.  After a
    # crash of the batch system the job may have ended already, and the driver may have its result.
    if read -r code _ <"$job/exit_code" 2>/dev/null; then
        echo "$id already ran $job and exited with $code; nothing to do"
        exit "$code"
    fi
fi
rm -f "$own"

# SIGTERM reaches every process of a job.  The training then saves a checkpoint, and this shell must
# outlive it to record its exit code.  The signals are trapped, not ignored, because the training
# would inherit ignored signals.  `wait` is not used: its status in bash 5.2 is -1 when a signal and
# the end of the child coincide.
trap : TERM INT HUP USR1 USR2

# A batch system may report a job as gone although it still runs behind a broken network: the
# heartbeat shows it to the driver.  `read` waits without a process that could outlive this one.
(
    trap '' TERM INT HUP USR1 USR2
    exec {never}<> <(:) </dev/null >/dev/null 2>&1
    while kill -0 $$; do
        date +%s >"$job/heartbeat"
        read -rt "${NODULE_HEARTBEAT_S:-20}" -u "$never" _
        if [ -e "$job/abandoned" ] && kill -0 $$; then
            kill -TERM 0 # this process group: the training, and this shell, which ignores it
            read -rt 60 -u "$never" _
            kill -KILL 0
        fi
    done
) &
heart=$!
disown # bash would report its end in the log

bash "$job/job.sh"
code=$?
kill -KILL $heart 2>/dev/null

# Retry, since a full disk may be temporary: without this file the training counts as lost.
for _ in $(seq 20); do
    if echo "$code $(date +%s.%3N)" >"$job/.exit_code" && sync "$job/.exit_code"; then
        mv -f "$job/.exit_code" "$job/exit_code" && rm -f "$job/heartbeat"
        break
    fi
    sleep 30
done
exit "$code"
