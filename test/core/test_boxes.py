from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from tpf_tracker_ros.core.boxes import check_box, clip_box, inside_image, iou, parse_box
from tpf_tracker_ros.core.errors import TpfError

sides = st.floats(1, 300)
places = st.floats(-200, 800)
boxes = st.tuples(places, places, sides, sides).map(np.array)


@given(boxes, boxes)
def test_iou_is_symmetric_and_between_zero_and_one(a, b):
    value = iou(a, b)
    assert 0 <= value <= 1 + 1e-12
    assert value == pytest.approx(iou(b, a))
    assert iou(a, a) == pytest.approx(1)


def test_iou_of_a_known_overlap():
    assert iou(np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 10, 10])) == pytest.approx(1 / 3)


@given(boxes)
def test_a_clipped_box_keeps_a_margin_inside(box):
    x, y, w, h = clip_box(box, (640, 512), margin=10)
    assert w >= 10 and h >= 10
    assert x <= 630 and y <= 502 and x + w >= 10 and y + h >= 10


def test_a_box_inside_the_image_is_not_clipped():
    box = np.array([20.0, 30, 40, 50])
    assert inside_image(box, (640, 512))
    np.testing.assert_allclose(clip_box(box, (640, 512)), box)


@pytest.mark.parametrize('text', ['', '1,2,3', '1,2,3,x', 'nan,0,1,1', '1,2,3,4,5'])
def test_what_is_not_a_box_is_refused(text):
    with pytest.raises(TpfError, match='X,Y,W,H'):
        parse_box(text)


@pytest.mark.parametrize(
    ('box', 'rule'),
    [
        ([5, 5, 0, 10], 'empty'),
        ([5, 5, 10, -3], 'empty'),
        ([700, 5, 10, 10], 'outside the 640x512 image'),
        ([1e300, 5, 10, 10], 'outside the 640x512 image'),
        ([-4680, -4744, 10000, 10000], 'larger than the 640x512 image'),
        ([0, 0, 20, 1e9], 'larger than the 640x512 image'),
        ([np.nan, 5, 10, 10], 'finite'),
        ('1,2,3,4', "'1,2,3,4' is not four numbers"),
        (None, 'is not four'),
    ],
)
def test_a_box_no_tracker_can_start_on_is_refused(box, rule):
    with pytest.raises(TpfError, match=rule):
        check_box(box, (640, 512))
