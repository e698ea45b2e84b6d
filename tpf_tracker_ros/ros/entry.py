"""How an executable begins: quiet when it is interrupted, clear when it cannot be loaded."""

from importlib import import_module
import os
import signal
import sys

from tpf_tracker_ros.core.errors import import_fault, TpfError


def start(module: str) -> None:
    """Import a module, which may take seconds, and call its main."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    try:
        main = import_module(module).main
    except ImportError as error:
        sys.exit(f'error: {import_fault(error)}')
    except TpfError as error:  # vision_msgs can be neither found nor compiled
        sys.exit(f'error: {error}')
    main()
