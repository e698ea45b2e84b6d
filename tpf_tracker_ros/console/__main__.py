"""The executable `console`, also `python -m tpf_tracker_ros.console`."""

from tpf_tracker_ros.ros.entry import start


def main() -> None:
    """Load the node, then run it as a process."""
    start('tpf_tracker_ros.console.node')


if __name__ == '__main__':
    main()
