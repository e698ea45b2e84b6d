"""What this process takes of the machine, and what others take of it."""

import os


def resident_mb() -> float:
    """Memory that this process holds now, MB."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def stolen_seconds() -> float:
    """Time since boot, s a core, that a virtual machine's host gave to others instead."""
    with open('/proc/stat') as file:
        ticks = int(
            file.readline().split()[8]
        )  # cpu user nice system idle iowait irq softirq steal
    return ticks / os.sysconf('SC_CLK_TCK') / (os.cpu_count() or 1)
