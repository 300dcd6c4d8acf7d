#!/bin/bash
# Linked as qsub, qstat, ...: says word for word what a real server was recorded to say.
# REPLAY is a folder with NAME.code, NAME.out and NAME.err; NAME.2.code ... for a second call.
name=$(basename "$0")
call=$(($(cat "$REPLAY/$name.calls" 2>/dev/null || echo 0) + 1))
echo "$call" >"$REPLAY/$name.calls"
echo "$*" >>"$REPLAY/$name.args"
[ -e "$REPLAY/$name.$call.code" ] && name=$name.$call
cat "$REPLAY/$name.err" >&2
cat "$REPLAY/$name.out"
exit "$(cat "$REPLAY/$name.code")"
