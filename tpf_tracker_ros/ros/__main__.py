"""The executable `tracker`, also `python -m tpf_tracker_ros.ros`."""

from tpf_tracker_ros.ros.entry import start


def main() -> None:
    """Load the node, then run it as a process."""
    start('tpf_tracker_ros.ros.run')


if __name__ == '__main__':
    main()
