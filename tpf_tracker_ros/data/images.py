"""A folder of images as one camera's frames, and the numbers in their names."""

from collections.abc import Callable, Iterator
from pathlib import Path
import re

import numpy as np
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import entries, substitute
from tpf_tracker_ros.core.image_encoding import ImageFile

IMAGE_SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.pgm', '.ppm'}


class ImageFolder:
    """
    The images of a folder, sorted by name with numbers as numbers.

    files: one a frame. there: which of them (N,) exist. numbers: of the frames, by the names of
    their files; None where those hold none.
    Raises TpfError on a folder without images, and by name on an image that cannot be decoded.
    """

    def __init__(self, path: Path, decode: Callable[[object], np.ndarray]) -> None:
        self.path = path
        files = (file for file in entries(path) if file.suffix.lower() in IMAGE_SUFFIXES)
        self.files = sorted(files, key=natural)
        self._decode = decode
        if not self.files:
            raise TpfError(f'{path} holds no images ({", ".join(sorted(IMAGE_SUFFIXES))})')
        self.numbers = frame_numbers(self.files)
        self.there = np.ones(len(self.files), bool)

    def arrange(self, files: list[Path]) -> None:
        """Give out these files, one a frame; None for those that the folder does not have."""
        had = set(self.files)
        self.files, self.there = files, np.array([file in had for file in files])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray | None:
        file = self.files[index]
        if not self.there[index]:
            return None
        try:
            return self._decode(ImageFile(file.suffix, file.read_bytes()))
        except TpfError as error:
            raise TpfError(f'{file}: {error}{substitute(file)}') from error

    def __iter__(self) -> Iterator[np.ndarray | None]:
        return map(self.__getitem__, range(len(self)))


def natural(path: Path) -> list[str | int]:
    """Sort key: frame 10 comes after frame 9, padded with zeros or not."""
    return [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', path.name)]


def frame_numbers(files: list[Path]) -> list[int] | None:
    """
    Return the numbers of frames in the order of their names: the last group of digits that grows.

    None where no group does: names without numbers, or numbered otherwise.
    """
    groups = [re.findall(r'\d+', file.stem)[::-1] for file in files]
    for column in zip(*groups):
        numbers = [int(digits) for digits in column]
        if all(a < b for a, b in zip(numbers, numbers[1:])):
            return numbers
    return None
