#!/bin/bash
# Linked as sbatch or qsub before the real one on the PATH: of ten answers one is lost after the job
# is there, and one comes from a server that is away.
name=$(basename "$0")
real=$(PATH=${PATH#*:} command -v "$name")
case $((RANDOM % 10)) in
    0) "$real" "$@" >/dev/null 2>&1 && echo lost >>"$(dirname "$0")/lost_answers" ;;
    1) echo away >>"$(dirname "$0")/lost_answers" ;;
    *) exec "$real" "$@" ;;
esac
echo "$name: error: Unable to contact slurm controller (connect failure)" >&2
exit 1
