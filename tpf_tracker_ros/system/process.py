"""What this process takes of the machine, and what others take of it."""

import os
import signal
import subprocess


def leave_cores() -> None:
    """
    Let torch take half of the cores, unless OMP_NUM_THREADS says otherwise.

    For a process that tracks, before it imports torch. Torch's threads spin while they wait for
    each other: on cores shared with cameras and drivers a step took a hundred times longer.
    """
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 2) // 2)))


def interrupt(process: subprocess.Popen, seconds: float) -> None:
    """End a child process as Ctrl-C does; kill it where it has not ended after so many seconds."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()


def resident_mb() -> float:
    """Memory that this process holds now, MB."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def stolen_seconds() -> float:
    """Time since boot, s a core, that a virtual machine's host gave to others instead."""
    with open('/proc/stat') as file:
        # cpu user nice system idle iowait irq softirq steal
        ticks = int(file.readline().split()[8])
    return ticks / os.sysconf('SC_CLK_TCK') / (os.cpu_count() or 1)
