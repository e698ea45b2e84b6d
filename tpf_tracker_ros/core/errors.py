"""The one exception for everything a user can put right."""


class TpfError(Exception):
    """
    Bad input or environment.

    The message is one line that names the value, the rule and the way out. The command line
    prints it and exits non-zero; the node logs it and fails its lifecycle transition.
    """
