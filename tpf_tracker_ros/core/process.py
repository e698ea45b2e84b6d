"""What this process takes of the machine."""


def resident_mb() -> float:
    """Memory that this process holds now, MB."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096 / 1e6
