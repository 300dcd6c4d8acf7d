#!/bin/bash
# start_slurm.sh DIR PORT: a one-node Slurm on loopback, without systemd, on ports PORT and PORT + 1.
# Needs root, and Debian's slurm-wlm and munge.  Then: export SLURM_CONF=DIR/slurm.conf
# Stopped with stop_slurm.sh DIR slurmctld, it can be started again with the jobs it had.  (A slurmd
# stopped between a job's allocation and its launch loses the launch; the job then "runs" until its
# time limit, without a process.)
set -eu
dir=$1 port=$2 host=$(hostname -s)
mkdir -p "$dir"/{state,spool,log}
install -d -o munge -g munge -m 0755 /run/munge
install -d -o munge -g munge -m 0700 /etc/munge /var/lib/munge /var/log/munge
(
    flock 9 # several tests may start at once; one munged serves them all
    if [ ! -s /etc/munge/munge.key ]; then
        dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none
        chown munge: /etc/munge/munge.key
        chmod 0400 /etc/munge/munge.key
    fi
    munge -n >/dev/null 2>&1 || runuser -u munge -- munged 9>&-
) 9>/run/munge/start.lock
memory_mb=$(awk '/MemTotal/{print int($2/1024*0.9)}' /proc/meminfo)
[ -s "$dir/slurm.conf" ] || cat >"$dir/slurm.conf" <<END
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
MinJobAge=300
KillWait=5
MessageTimeout=3
OverTimeLimit=0
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=$memory_mb State=UNKNOWN
PartitionName=workq Nodes=$host Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
PartitionName=tiny Nodes=$host MaxTime=5 State=UP
END
export SLURM_CONF=$dir/slurm.conf
for daemon in slurmctld "slurmd -N $host"; do
    kill -0 "$(cat "$dir/${daemon%% *}.pid" 2>/dev/null)" 2>/dev/null || $daemon
done
for _ in $(seq 100); do
    sinfo -h -o %T 2>/dev/null | grep -Eq 'idle|mixed|alloc' && exit 0
    sleep 0.1
done
echo "slurm did not come up; see $dir/log" >&2
exit 1
