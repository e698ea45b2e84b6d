"""What CMD and SDSTrack compare inside of networks."""

import pytest
import torch
from tpf_tracker_ros.models.sdstrack import Fused
from tpf_tracker_ros.training.losses.features import (
    common,
    common_specific_loss,
    path_loss,
    plain_loss,
    response_loss,
    slots_loss,
    standardized,
)

ALL = torch.ones(2, dtype=torch.bool)


def pair(seed):
    torch.manual_seed(seed)
    return tuple(standardized(torch.randn(2, 320, 256)) for _ in range(2))


def test_unrelated_features_lose_what_the_formulas_say():
    assert plain_loss(pair(0), pair(1)).item() == pytest.approx(4.0, rel=0.01)
    loss = common_specific_loss(pair(0), pair(1), (ALL, ALL))
    assert loss.item() == pytest.approx(0.36 + 0.5 * 2.73, rel=0.02)
    assert common_specific_loss(pair(0), pair(0), (ALL, ALL)) == 0
    # Not the mean and the difference, whose errors sum to half of the plain loss.
    assert abs(loss.item() - plain_loss(pair(0), pair(1)).item() / 2) > 0.2


def test_common_is_what_both_say_alike():
    one, other = torch.tensor([3.0, -2.0, 1.0, 0.0]), torch.tensor([1.0, -5.0, -1.0, 2.0])
    assert common(one, other).tolist() == [1.0, -2.0, 0.0, 0.0]


def test_nothing_specific_is_learned_of_a_dead_camera():
    (rgb, thermal), taught = pair(0), pair(1)
    none = torch.zeros(2, dtype=torch.bool)
    shared = (common(rgb, thermal) - common(*taught)).square().mean()
    dead = common_specific_loss((rgb, thermal), taught, (none, none))
    torch.testing.assert_close(dead, shared)
    alive = common_specific_loss((rgb, thermal), taught, (ALL, none))
    assert dead < alive < common_specific_loss((rgb, thermal), taught, (ALL, ALL))


def test_a_path_counts_by_its_share_and_a_cell_by_its_weight():
    torch.manual_seed(0)
    right, wrong, taught = torch.randn(3, 2, 8, 4, 4)
    even, place = torch.full((2, 2), 0.5), torch.ones(2, 1, 4, 4)
    paths = [taught, right], [taught, wrong]
    first, second = torch.eye(2)[:, None].expand(-1, 2, -1)
    assert path_loss(*paths, first, place).item() == pytest.approx(0, abs=1e-6)
    full = path_loss(*paths, second, place)
    torch.testing.assert_close(path_loss(*paths, even, place), full / 2)
    # Wrong in one cell alone, which counts nothing: only the common scale still shows.
    other = taught.clone()
    other[..., 0, 0] += 5
    hidden = place.clone()
    hidden[..., 0, 0] = 0
    seen = path_loss([other], [taught], even[:, :1] * 2, place)
    assert path_loss([other], [taught], even[:, :1] * 2, hidden) < 0.5 * seen


def test_response_is_learned_where_maps_are_apart():
    teacher = torch.tensor([0.9, 0.1, 0.1]).view(1, 1, 1, 3)
    student = torch.tensor([0.2, 0.1, 0.1]).view(1, 1, 1, 3).requires_grad_()
    response_loss(student, teacher).backward()
    gradient = student.grad.flatten()
    assert gradient[0] < 0 and gradient[1:].abs().max() == 0
    assert response_loss(teacher, teacher) == 0


def test_fused_tokens_are_compared_by_their_patches():
    """Of four search tokens, both passes keep 1 and 3, in other orders."""
    torch.manual_seed(0)
    patches = torch.randn(1, 4, 8)
    template = torch.randn(1, 2, 8)

    def fused(kept):
        kept = torch.tensor([kept])
        return Fused(torch.cat([template, patches[:, kept[0]]], 1), kept)

    assert slots_loss(fused([3, 1]), fused([1, 3]), 4) == 0
    assert slots_loss(fused([3, 1, 0]), fused([1, 2, 3]), 4) == 0  # 0 and 2 are in one pass only
    moved = fused([1, 3])
    moved.tokens[:, 2] += 1
    loss = slots_loss(fused([3, 1]), moved, 4)
    assert loss.item() == pytest.approx(1 / 4)  # of two template and two common search tokens
