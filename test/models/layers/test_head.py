import pytest
import torch
from tpf_tracker_ros.models.layers.head import CentreHead, decode, hann_window


def test_the_best_cell_gives_the_box():
    score, size, offset = (
        torch.zeros(1, 1, 16, 16),
        torch.zeros(1, 2, 16, 16),
        torch.zeros(1, 2, 16, 16),
    )
    score[0, 0, 5, 9] = 0.8  # row 5, column 9
    size[0, :, 5, 9] = torch.tensor([0.2, 0.3])
    offset[0, :, 5, 9] = torch.tensor([0.25, 0.5])
    box, confidence = decode(score, size, offset)
    torch.testing.assert_close(box, torch.tensor([[9.25 / 16, 5.5 / 16, 0.2, 0.3]]))
    assert confidence.item() == pytest.approx(0.8)


def test_each_image_of_a_batch_is_decoded_by_itself():
    score = torch.rand(3, 1, 16, 16)
    size, offset = torch.rand(3, 2, 16, 16), torch.rand(3, 2, 16, 16)
    together, _ = decode(score, size, offset)
    for i in range(3):
        alone, _ = decode(score[[i]], size[[i]], offset[[i]])
        torch.testing.assert_close(together[[i]], alone)


def test_tokens_alone_give_the_maps_of_the_map_that_they_make():
    head = CentreHead(6, 16).eval()
    tokens, kept = torch.randn(2, 9, 6), torch.stack([torch.randperm(25)[:9] for _ in range(2)])
    whole = torch.zeros(2, 25, 6).scatter(1, kept[..., None].expand(-1, -1, 6), tokens)
    expected = head(whole.transpose(1, 2).unflatten(2, (5, 5)))
    for found, each in zip(head.of_tokens(tokens, kept, 5), expected):
        torch.testing.assert_close(found, each)


def test_the_window_is_the_published_one():
    line = torch.tensor(
        [0.5 * (1 - torch.cos(torch.tensor(2 * torch.pi * i / 17))) for i in range(1, 17)]
    )
    torch.testing.assert_close(hann_window(16)[0, 0], torch.outer(line, line))
