"""How an executable begins: quiet when it is interrupted, clear when a module is missing."""

from importlib import import_module
import os
import signal
import sys

from tpf_tracker_ros.core.errors import missing_module


def start(module: str) -> None:
    """Import a module, which may take seconds, and call its main."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    try:
        main = import_module(module).main
    except ModuleNotFoundError as error:
        sys.exit(f'error: {missing_module(error)}')
    main()
