import cv2
import numpy as np
from tpf_tracker_ros.core.depth import depth_colours


def test_depth_is_clipped_at_three_medians_and_coloured():
    depth = np.full((20, 30), 1000, np.uint16)
    depth[0, :10], depth[1, :10] = 500, 60000
    colours = depth_colours(depth)
    jet = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_JET)[:, 0]
    assert (colours[0, 0] == jet[0]).all() and (colours[1, 0] == jet[255]).all()
    assert (colours[5, 5] == jet[int(255 * 500 / 2500)]).all()  # 500..3000 mm


def test_far_depth_ends_at_ten_metres_and_what_was_not_measured_is_nearest():
    depth = np.full((20, 30), 9000, np.float32)
    depth[0], depth[1], depth[2] = np.nan, np.inf, 30000
    colours = depth_colours(depth)
    jet = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_JET)[:, 0]
    assert (colours[0, 0] == jet[0]).all() and (colours[1, 0] == jet[0]).all()
    assert (colours[2, 0] == jet[255]).all()
