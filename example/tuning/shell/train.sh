#!/bin/sh
# Tune a command line tool: which level and block size of gzip takes the least time and space?
# Run as a study: python -m nodule_det.hpo study=studies/gzip objective=seconds.total \
#     direction=minimize 'command=[sh,example/tuning/shell/train.sh]' \
#     search_space=example/tuning/shell/space.yaml
for word in "$@"; do
    case $word in
        level=*) level=${word#level=} ;;
        megabytes=*) megabytes=${word#megabytes=} ;;
        run_dir=*) run_dir=${word#run_dir=} ;;
    esac
done

start=$(date +%s.%N)
size=$(head -c "${megabytes}000000" /dev/zero | gzip "-$level" | wc -c) || exit 1
end=$(date +%s.%N)

echo "$start $end $size" | awk '{
    printf "{\"status\": \"complete\", \"seconds\": {\"total\": %.6f}, \"bytes\": %d}\n", $2 - $1, $3
}' >"$run_dir/result.json"
