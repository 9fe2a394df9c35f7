#!/bin/sh
# ray 2.60.0: what ray.init does to a program's signals, what ray.cancel interrupts, and where the loss of a worker is reported.
#
# Seen:
# - ray.init replaces the program's handler of SIGTERM by its own, which calls sys.exit: what the program would have done, such as
#   writing what it has, is not done. It says nothing of it.
# - ray.cancel without force raises KeyboardInterrupt in the task, but wakes it from no system call: a task that sleeps for 5 seconds
#   ends after them, as does one that waits for a lock or a disk.
# - When a worker is killed, a paragraph about it is printed on the program's standard output, also with log_to_driver=False.
# `harness run --executor ray` puts its handler back, ends tasks by force a second after it has asked them, and takes the paragraph out
# of its standard output.
#
# Usage: findings/ray_signals.sh     exits with 0 as long as it is so
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
"$work/venv/bin/python" - > "$work/output" <<'PY'
import os
import signal
import sys
import time

import ray


def own(*_):
    raise KeyboardInterrupt


def slept():
    time.sleep(5)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


signal.signal(signal.SIGTERM, own)
ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
replaced = signal.getsignal(signal.SIGTERM) is not own

task = ray.remote(slept).options(max_retries=0).remote()
time.sleep(2)  # it sleeps by now
started = time.monotonic()
ray.cancel(task)
try:
    ray.get(task)
except ray.exceptions.TaskCancelledError:
    pass
seconds = time.monotonic() - started

try:
    ray.get(ray.remote(killed).options(max_retries=0).remote())
except ray.exceptions.WorkerCrashedError:
    pass
time.sleep(3)  # the paragraph comes from a thread
ray.shutdown()
print(f"handler of SIGTERM replaced: {replaced}; a sleeping task ended {seconds:.1f} s after ray.cancel", file=sys.stderr)
sys.exit(0 if replaced and seconds > 1 else "changed")
PY
grep "A worker died or was killed" "$work/output" | cut -c1-100
