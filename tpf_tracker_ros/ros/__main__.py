"""
The executable `tracker`, also `python -m tpf_tracker_ros.ros`: the node as a process.

Quiet when it is interrupted, and clear when a module is missing, while the node is being loaded.
"""

import os
import signal
import sys

from tpf_tracker_ros.core.errors import missing_module


def main() -> None:
    """Load the node, then run it."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    try:
        from tpf_tracker_ros.ros.run import main as run
    except ModuleNotFoundError as error:
        sys.exit(f'error: {missing_module(error)}')
    run()


if __name__ == '__main__':
    main()
