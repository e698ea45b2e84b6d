"""How the commands' help is written."""


def examples(*lines: str) -> str:
    """Return an epilog that click leaves as it is."""
    return '\b\nExample:\n' + '\n'.join(f'  {line}' for line in lines)
