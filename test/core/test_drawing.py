"""What is drawn is where the box is, leaves the target visible and the input untouched."""

import numpy as np
import pytest
from tpf_tracker_ros.core.drawing import COLOURS, draw_result
from tpf_tracker_ros.tracking.tracker import TrackState

GREY = np.full((240, 320, 3), 100, np.uint8)
BOX = np.array([150.0, 100.0, 40.0, 30.0])


@pytest.mark.parametrize('state', list(TrackState))
def test_box_frames_the_target_in_the_states_colour(state):
    image = draw_result(GREY, BOX, state=state, score=0.5)
    assert (GREY == 100).all()
    assert (image[100:130, 150:190] == 100).all(), 'the target itself stays visible'
    rows, columns = np.nonzero((image[60:] != 100).any(-1))
    assert 60 + rows.min() == 98 and 60 + rows.max() == 131
    assert columns.min() == 148 and columns.max() == 191
    drawn = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
    assert COLOURS[state.value] in drawn


def test_no_box_but_the_state():
    image = draw_result(GREY, None, state='LOST', score=0.0)
    assert (image[60:] == 100).all()
    assert (image[:60] != 100).any()


def test_ground_truth_and_boxes_far_outside():
    absent = np.full(4, np.nan)
    plain = draw_result(GREY, BOX, state='TRACKING', score=1, ground_truth=absent)
    shown = draw_result(GREY, BOX, state='TRACKING', score=1, ground_truth=BOX / 2)
    assert (plain != shown).any()
    np.testing.assert_array_equal(
        draw_result(GREY, np.array([1e12, 0, 5, 5]), state='TRACKING', score=1),
        draw_result(GREY, None, state='TRACKING', score=1),
    )


def test_read_only_and_flipped_images_can_be_drawn_on():
    flipped = GREY[:, ::-1]
    flipped.flags.writeable = False
    assert draw_result(flipped, BOX, state='TRACKING', score=1).shape == GREY.shape
