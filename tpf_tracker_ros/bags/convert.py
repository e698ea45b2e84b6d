"""Sequences to bags and back: from-sequence and export."""

from pathlib import Path

import cv2
import numpy as np
from tpf_tracker_ros.bags.writer import BagWriter
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import write_file
from tpf_tracker_ros.core.sequence import Sequence
from tqdm import tqdm

# A stamp of zero means 'none' in ROS, so sequences whose time begins at zero begin here.
EPOCH = 1_700_000_000_000_000_000
FOLDERS = {'rgb': 'visible', 'thermal': 'infrared'}


def sequence_to_bag(
    sequence: Sequence,
    path: Path | str,
    *,
    compression: str | None = None,
    overwrite: bool = False,
) -> None:
    """
    Write a sequence as the cameras of a robot would have recorded it.

    Topics: rgb/image_raw, thermal/image_raw, camera_info beside each, and ground_truth
    (Detection2DArray) where it is known. Frames: rgb_camera, thermal_camera; one stamp a pair.
    compression: None, 'jpeg' or 'png'; thermal of more than 8 bits is png then, float is raw.
    """
    with BagWriter(path, overwrite=overwrite) as bag:
        shift = None
        frames = tqdm(sequence, total=len(sequence), desc=Path(path).name, disable=None)
        for index, pair in enumerate(frames):
            if shift is None:
                shift = 0 if pair.stamp else EPOCH
            stamp = pair.stamp + shift
            for camera, image in (('rgb', pair.rgb), ('thermal', pair.thermal)):
                if image is None:
                    continue
                frame_id, topic = f'{camera}_camera', f'/{camera}'
                bag.write_camera_info(f'{topic}/camera_info', pair.size, stamp, frame_id=frame_id)
                bag.write_image(
                    f'{topic}/image_raw',
                    image,
                    stamp,
                    frame_id=frame_id,
                    compression=_fitting(compression, image),
                )
            if sequence.ground_truth is not None:
                frame_id = 'thermal_camera' if pair.rgb is None else 'rgb_camera'
                box = sequence.ground_truth[index]
                bag.write_box('/ground_truth', box, stamp, frame_id=frame_id)


def sequence_to_folder(sequence: Sequence, folder: Path | str) -> None:
    """
    Write a sequence in LasHeR's layout, without loss.

    folder/visible and folder/infrared hold png files (tiff for float thermal); visible.txt,
    infrared.txt and init.txt the ground truth as x,y,w,h, one row a frame, zeros where the target
    is absent; timestamps.txt the stamps in ns. A frame that one camera lacks is black there.
    Raises TpfError when the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise TpfError(f'{folder} is not empty; give a new folder')
    stamps, black = [], {}
    for index, pair in enumerate(tqdm(sequence, desc=folder.name, disable=None)):
        stamps.append(pair.stamp)
        for camera, image in (('rgb', pair.rgb), ('thermal', pair.thermal)):
            if image is not None and camera not in black:
                black[camera] = np.zeros_like(image)
                for earlier in range(index):
                    _write_image(folder / FOLDERS[camera] / f'{earlier:06d}', black[camera])
            if camera in black:
                shown = black[camera] if image is None else image
                _write_image(folder / FOLDERS[camera] / f'{index:06d}', shown)
    write_file(folder / 'timestamps.txt', ''.join(f'{stamp}\n' for stamp in stamps).encode())
    if sequence.ground_truth is not None:
        boxes = np.nan_to_num(sequence.ground_truth)
        lines = [','.join(f'{value:.10g}' for value in box.round(4)) + '\n' for box in boxes]
        for name in (*(FOLDERS[camera] for camera in black), 'init'):
            write_file(folder / f'{name}.txt', ''.join(lines).encode())


def _fitting(compression: str | None, image: np.ndarray) -> str | None:
    """Return the compression that can hold this image."""
    if compression is None or image.dtype == np.float32:
        return None
    return 'png' if image.dtype == np.uint16 else compression


def _write_image(stem: Path, image: np.ndarray) -> None:
    """Write stem.png, or stem.tiff for float."""
    suffix = '.tiff' if image.dtype == np.float32 else '.png'
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    write_file(stem.with_suffix(suffix), cv2.imencode(suffix, pixels)[1].tobytes())
