"""Depth as colours, as trackers of RGB and depth were trained on it."""

import cv2
import numpy as np
from tpf_tracker_ros.core.errors import TpfError

FARTHEST = 10_000.0  # mm


def check_depth(image: np.ndarray) -> np.ndarray:
    """Return a decoded depth frame. Raises TpfError on 8 bits, which cannot hold mm."""
    if image.dtype == np.uint8:
        raise TpfError('depth image has 8 bits a pixel; it must be mm, in 16 bits or float')
    return image


def depth_colours(depth: np.ndarray) -> np.ndarray:
    """
    Return a whole depth frame (H, W) in mm as uint8 (H, W, 3).

    Clipped at three times the median, or at 10 m; least to largest as 0..255; the jet colour map,
    in the B, G, R order that the published code leaves it in. NaN and infinite pixels are 0.
    """
    depth = np.nan_to_num(depth.astype(np.float32), nan=0, posinf=0, neginf=0)
    depth = depth.clip(None, min(3 * float(np.median(depth)), FARTHEST))
    grey = cv2.normalize(depth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return cv2.applyColorMap(grey, cv2.COLORMAP_JET)
