"""The one exception for everything a user can put right."""


class TpfError(Exception):
    """
    Bad input or environment.

    The message is one line that names the value, the rule and the way out. The command line
    prints it and exits non-zero; the node logs it and fails its lifecycle transition.
    """


def missing_module(error: ModuleNotFoundError) -> str:
    """Say in one line how to get a Python module that is not installed."""
    return (
        f'the Python module {error.name!r} is missing; in a colcon workspace: rosdep install '
        '--from-paths src --ignore-src, and pip install safetensors av, which have no rosdep key; '
        "elsewhere: pip install 'tpf_tracker_ros[ros]'"
    )
