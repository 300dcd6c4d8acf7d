#!/bin/bash
# stop_slurm.sh DIR [NAME...]: stop slurmd and slurmctld (or those named) by the pids they wrote.
dir=$1
shift
for name in "${@:-slurmd slurmctld}"; do
    for daemon in $name; do
        pid=$(cat "$dir/$daemon.pid" 2>/dev/null) || continue
        kill "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    done
done
