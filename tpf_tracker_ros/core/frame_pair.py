"""One RGB and one thermal image of the same instant: what every room passes on."""

from dataclasses import dataclass, replace

import numpy as np
from tpf_tracker_ros.core.errors import TpfError

THERMAL_DTYPES = (np.uint8, np.uint16, np.float32)


@dataclass(frozen=True)
class FramePair:
    """
    A registered RGB-thermal pair on one pixel grid.

    rgb: uint8 (H, W, 3) in R, G, B order, or None when that camera is absent.
    thermal: uint8, uint16 or float32 (H, W), or None when that camera is absent; event images in
    its place are uint8 (H, W, 3).
    stamp: capture time in integer nanoseconds.

    Raises TpfError on a wrong dtype, shape or size, and when both images are None.
    """

    rgb: np.ndarray | None
    thermal: np.ndarray | None
    stamp: int = 0

    def __post_init__(self) -> None:
        if self.rgb is None and self.thermal is None:
            raise TpfError(
                'a frame pair has neither an rgb nor a thermal image; give at least one'
            )
        if self.rgb is not None and (
            self.rgb.dtype != np.uint8 or self.rgb.ndim != 3 or self.rgb.shape[2] != 3
        ):
            raise TpfError(
                f'rgb image is {self.rgb.dtype} {self.rgb.shape}; it must be uint8 (H, W, 3)'
            )
        if self.thermal is not None and not _is_second(self.thermal):
            raise TpfError(
                f'thermal image is {self.thermal.dtype} {self.thermal.shape}; '
                'it must be uint8, uint16 or float32 (H, W), event images uint8 (H, W, 3)'
            )
        if self.rgb is not None and self.thermal is not None:
            (rgb_h, rgb_w), (th_h, th_w) = self.rgb.shape[:2], self.thermal.shape[:2]
            if (rgb_h, rgb_w) != (th_h, th_w):
                raise TpfError(
                    f'thermal image is {th_w}x{th_h} but rgb is {rgb_w}x{rgb_h} and no '
                    'registration is set; give a homography (parameter registration.homography, '
                    'option --homography) or images of one size'
                )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width = (self.thermal if self.rgb is None else self.rgb).shape[:2]
        return width, height

    def without(self, camera: str) -> 'FramePair':
        """Return the pair with 'rgb' or 'thermal' absent; itself for an empty string."""
        return replace(self, **{camera: None}) if camera else self

    def only(self, modality: str) -> 'FramePair':
        """Return the pair with the images that this modality names, at least one, alone."""
        unused = (name for name in ('rgb', 'thermal') if name not in modality)
        return replace(self, **dict.fromkeys(unused))

    @property
    def modality(self) -> str:
        """'rgb+thermal', 'rgb' or 'thermal': which images are there."""
        present = ('rgb', self.rgb), ('thermal', self.thermal)
        return '+'.join(name for name, image in present if image is not None)


def _is_second(image: np.ndarray) -> bool:
    if image.ndim == 3:
        return image.dtype == np.uint8 and image.shape[2] == 3
    return image.ndim == 2 and image.dtype in THERMAL_DTYPES
