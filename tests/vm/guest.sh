#!/usr/bin/env bash
# In the machine: runs each job of /mnt/host/jobs ("NAME SECONDS" a line), one after the other, in a folder of
# its own. Its standard output is /mnt/host/NAME.jsonl, what it says besides NAME.err, its exit code NAME.code.
mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
export PYTHONPATH=/mnt/host/tree:/mnt/host/tree/tests/vm
# Signs of life: a machine that gives none stands still.
while :; do date >/mnt/host/alive; sleep 10; done &
while read -r name seconds; do
    mkdir -p "/run/jobs/$name"
    cd "/run/jobs/$name" || exit
    timeout --kill-after=5 "$seconds" python3 "/mnt/host/tree/tests/vm/jobs/$name.py" \
        </dev/null >"/mnt/host/$name.jsonl" 2>"/mnt/host/$name.err"
    echo $? >"/mnt/host/$name.code"
done </mnt/host/jobs
