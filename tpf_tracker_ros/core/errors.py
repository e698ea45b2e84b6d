"""The one exception for everything a user can put right."""

import sys


class TpfError(Exception):
    """
    Bad input or environment.

    The message is one line that names the value, the rule and the way out. The command line
    prints it and exits non-zero; the node logs it and fails its lifecycle transition.
    """


def import_fault(error: ImportError) -> str:
    """Say in one line how to get what cannot be imported: a module, or a library behind one."""
    if not isinstance(error, ModuleNotFoundError):
        return f'{" ".join(str(error).split())}; install the library, or the module anew'
    if error.name and '._' in error.name:  # the compiled part of a module that is there
        return (
            f'{error.name} is not there for this Python {sys.version_info[0]}.'
            f'{sys.version_info[1]} ({sys.executable}); run it with the Python of your ROS 2, '
            'outside of conda and other environments'
        )
    return (
        f'the Python module {error.name!r} is missing; in a colcon workspace: rosdep install '
        '--from-paths src --ignore-src, and pip install safetensors av, which have no rosdep key; '
        "elsewhere: pip install 'tpf_tracker_ros[ros]'"
    )
