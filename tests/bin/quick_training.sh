#!/bin/bash
# Stands in for a training: takes the same overrides, notes its start, and writes result.json.
# QUICK_S: how long it takes.  Its value is that of optim.beta1, so that a test can redo it.
for word in "$@"; do
    case $word in
        run_dir=*) run_dir=${word#run_dir=} ;;
        optim.beta1=*) value=${word#optim.beta1=} ;;
    esac
done
echo start >>"$run_dir/starts"
sleep "${QUICK_S:-0.05}" || exit 143 # a killed sleep is a killed training
echo "{\"status\": \"complete\", \"pauc\": ${value:-0.5}, \"pauc_se\": 0.01, \"step\": 1}" >"$run_dir/.result"
mv "$run_dir/.result" "$run_dir/result.json"
