from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import torch
from tpf_tracker_ros.core.boxes import iou
from tpf_tracker_ros.training.losses.centre import (
    box_at,
    focal_loss,
    gaussian_target,
    giou_loss,
    matching_loss,
)

unit = st.floats(0.1, 0.9)
boxes = st.tuples(unit, unit, unit, unit)


@given(boxes, boxes)
def test_giou_of_overlapping_boxes_is_bounded_by_iou(a, b):
    loss = giou_loss(torch.tensor([a]), torch.tensor([b])).item()
    corners = [np.array([cx - w / 2, cy - h / 2, w, h]) for cx, cy, w, h in (a, b)]
    assert 1 - iou(*corners) - 1e-5 <= loss <= 2
    assert giou_loss(torch.tensor([a]), torch.tensor([a])).item() == pytest.approx(0, abs=1e-5)


@given(unit, unit, st.floats(0.05, 0.6), st.floats(0.05, 0.6))
def test_the_heat_map_peaks_at_the_centres_cell(cx, cy, w, h):
    heat = gaussian_target(torch.tensor([[cx, cy, w, h]]), 16)[0, 0]
    assert heat[int(cy * 16), int(cx * 16)] == 1
    assert (heat == 1).sum() == 1 and heat.min() >= 0


def test_a_target_outside_the_crop_leaves_no_peak():
    assert not gaussian_target(torch.tensor([[1.4, 0.5, 0.2, 0.2]]), 16).any()


def test_focal_loss_prefers_the_right_map():
    target = gaussian_target(torch.tensor([[0.5, 0.5, 0.2, 0.2]]), 16)
    right = target.clamp(1e-4, 1 - 1e-4)
    assert focal_loss(right, target) < focal_loss(right.roll(5, -1), target) / 10


def test_box_at_reads_the_cell():
    size, offset = torch.rand(2, 2, 16, 16), torch.rand(2, 2, 16, 16)
    cell = torch.tensor([[3, 7], [12, 0]])
    box = box_at(size, offset, cell)
    torch.testing.assert_close(box[0, :2], (cell[0] + offset[0, :, 7, 3]) / 16)
    torch.testing.assert_close(box[1, 2:], size[1, :, 0, 12])


def test_matching_loss_is_small_only_for_the_true_places():
    matches = torch.tensor([[[0.5, 0.25], [0.03125, 0.96875]]])  # the second: corner cell's centre
    seen = torch.tensor([[True, True]])
    right = torch.full((1, 256, 2), -20.0)
    for row, column, token in ((3, 7, 0), (3, 8, 0), (4, 7, 0), (4, 8, 0), (15, 0, 1)):
        right[0, row * 16 + column, token] = 20
    assert matching_loss(right, matches, seen) == pytest.approx(np.log(4) / 2, abs=1e-3)
    assert matching_loss(right.flip(1), matches, seen) > 10
    assert matching_loss(right.flip(1), matches, torch.tensor([[False, False]])) == 0
