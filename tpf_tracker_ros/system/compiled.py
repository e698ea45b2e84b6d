"""Code that is compiled once on the user's machine, into the user's cache folder."""

from collections.abc import Callable
import fcntl
import hashlib
import importlib.util
import os
from pathlib import Path
import platform
import shutil
import subprocess
import sys
import tempfile

from tpf_tracker_ros.core.errors import TpfError


def compiled_once(
    name: str, made_from: list[str], build: Callable[[Path], None], *, seconds: int
) -> Path:
    """
    Return the folder that build(folder) has filled, now or in an earlier process.

    made_from: all that the result depends on; another text is another build. seconds: what it
    takes, to be told. Raises TpfError where the cache cannot be written, and what build raises.
    """
    key = hashlib.sha256('\n'.join(made_from).encode()).hexdigest()[:16]
    cache = _cache_folder()
    folder = cache / f'{name}-{key}'
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / 'lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits instead of compiling too
            if not folder.is_dir():
                print(f'compiling {name} once, about {seconds} s, into {folder}', file=sys.stderr)
                # Renamed when complete: an interrupted build leaves nothing that looks like one.
                with tempfile.TemporaryDirectory(dir=cache) as temporary:
                    made = Path(temporary) / name
                    made.mkdir()
                    build(made)
                    made.rename(folder)
    except OSError as error:
        raise TpfError(
            f'cannot build {name} in {cache}: {error}; set XDG_CACHE_HOME to a writable folder'
        ) from error
    return folder


def _cache_folder() -> Path:
    try:
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    except RuntimeError:  # a container whose user no passwd knows
        raise TpfError(
            f'user {os.getuid()} has no home folder; set XDG_CACHE_HOME to a writable folder'
        ) from None
    return cache / 'tpf_tracker_ros'


def find_compilers(name: str) -> dict[str, list[str]]:
    """
    Return the command for '.c' and '.cpp': what the environment names, the system's, or zig.

    Raises TpfError, with the cure, where there is none for `name`.
    """
    c, cxx = os.environ.get('CC', 'gcc'), os.environ.get('CXX', 'g++')
    if shutil.which(c) and shutil.which(cxx):
        return {'.c': [c], '.cpp': [cxx]}
    if importlib.util.find_spec('ziglang'):
        zig = [sys.executable, '-m', 'ziglang']
        return {'.c': [*zig, 'cc'], '.cpp': [*zig, 'c++']}
    raise TpfError(
        f'{name} must be compiled once, but there is no C++ compiler; '
        'install one: pip install ziglang (or sudo apt install g++)'
    )


def call_compiler(command: list[str], name: str) -> None:
    """Run it; raises TpfError with its first line about an error."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if 'error' in line] or [done.stderr]
        raise TpfError(f'{name} does not compile with {command[0]}: {lines[0].strip()}')


def processor() -> str:
    """Name what this processor can do: code made for one may not run on another."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    abilities = {line for line in lines if line.startswith(('flags', 'Features'))}
    return '\n'.join([platform.machine(), *sorted(abilities)])
