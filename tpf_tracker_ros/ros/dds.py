"""
What the DDS layer needs so that images get through: environment variables, before rclpy starts.

The shared-memory segment of Fast DDS is 512 KiB by default, smaller than one 640x480 image: of
best-effort pairs at 30 Hz, 44 % came through; with a segment of 4 MB or more, all of them did.
"""

from collections.abc import Mapping
import os
from pathlib import Path
import re
from shutil import disk_usage

DEFAULT_SEGMENT = 512 * 1024
# What Fast DDS 3 reads, and Fast DDS 2 (up to Jazzy); 3 warns about the older name.
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
PROFILE_VARIABLE = PROFILE_VARIABLES[os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')]
# glibc gives freed blocks of image size back to the system at once and faults them in again at
# the next image; keeping them took p50 from 4.3 to 1.7 ms, the subscriber's CPU from 17 to 6 %.
ALLOCATOR = {
    'MALLOC_MMAP_THRESHOLD_': str(256 << 20),
    'MALLOC_TRIM_THRESHOLD_': str(1 << 30),
}
# Profiles in config/ by the segment they bring, MiB: for a few images of VGA size, and of 4K.
PROFILES = {16: 'fastdds.xml', 128: 'fastdds_4k.xml'}


def config_file(name: str) -> Path:
    """Return a file of the package's `config/`, in a source tree or installed by pip or colcon."""
    here = Path(__file__).resolve()
    folders = [here.parents[2] / 'config']
    folders += [parent / 'share/tpf_tracker_ros/config' for parent in here.parents]
    return next(folder / name for folder in folders if (folder / name).is_file())


def profile_for(size: int) -> str:
    """Return the name of the profile whose segment holds a few images of size bytes."""
    fitting = [name for mib, name in PROFILES.items() if 3 * size <= mib << 20]
    return (fitting or list(PROFILES.values())[-1:])[0]


def cure_for_loss(size: int) -> str:
    """Say what to do when images of size bytes get lost on the way."""
    if size <= DEFAULT_SEGMENT or shared_memory_segment() is None:
        return 'see whether the network or this processor is overloaded'
    return (
        "most likely the sender's shared-memory segment is too small: start the camera driver "
        f'with {PROFILE_VARIABLE}={config_file(profile_for(size))}; where it has that, this '
        'processor is overloaded'
    )


def image_environment(
    environment: Mapping[str, str] = os.environ, *, profile: str = 'fastdds.xml'
) -> dict[str, str]:
    """
    Return the variables to add for a process that sends or receives images.

    profile: one of config/. What the user has set wins: with a profile or builtin transports of
    their own, ours is left out.
    """
    added = {name: value for name, value in ALLOCATOR.items() if name not in environment}
    chosen = (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS')
    if not any(environment.get(name) for name in chosen):
        added[PROFILE_VARIABLE] = str(config_file(profile))
    return added


def loopback_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return a whole environment for child processes whose graph stays on this host."""
    return {
        **environment,
        **image_environment(environment),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }


def shared_memory_segment(environment: Mapping[str, str] = os.environ) -> int | None:
    """
    Return the size in bytes of this process's shared-memory segment.

    None where it cannot be told: another rmw than Fast DDS, or builtin transports chosen by name.
    """
    if 'fastrtps' not in (environment.get('RMW_IMPLEMENTATION') or 'rmw_fastrtps_cpp'):
        return None
    for variable in PROFILE_VARIABLES:
        profile = Path(environment.get(variable) or '')
        if profile.is_file():
            sizes = re.findall(r'<segment_size>\s*(\d+)', profile.read_text())
            return max(map(int, sizes), default=DEFAULT_SEGMENT)
    if environment.get('FASTDDS_BUILTIN_TRANSPORTS', 'DEFAULT') != 'DEFAULT':
        return None
    return DEFAULT_SEGMENT


def shared_memory_shortage() -> str | None:
    """Say that this process's segment, not made yet, does not fit: Fast DDS names no reason."""
    segment, folder = shared_memory_segment(), Path('/dev/shm')
    if segment is None or not folder.is_dir() or (free := disk_usage(folder).free) >= segment:
        return None
    return (
        f'{folder} has {free / 1e6:.0f} MB left, less than the {segment / 1e6:.0f} MB by which '
        'images would be shared, so they go by UDP, slower and with losses; give a container '
        '--shm-size=512m or --ipc=host'
    )
