"""What CKD and SDSTrack start from, and the teacher that a run of CKD leaves."""

from pathlib import Path

import pytest
from safetensors.torch import save_file
import torch
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.models.ckd import Ckd, CkdWithTeachers
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.vit_config import VitConfig
from tpf_tracker_ros.training.stages.ckd import start_from_one_stream
from tpf_tracker_ros.training.teachers import CkdTeacher

CONFIG = VitConfig(
    template_size=32, search_size=64, stride=8, dim=32, depth=2, heads=2, ce_blocks=(),
    head_channels=16,
)  # fmt: skip


@pytest.fixture
def one_stream(tmp_path) -> Path:
    torch.manual_seed(0)
    stream, head = CONFIG.stream(), CentreHead(32, 16)
    weights = {f'backbone.{k}': v for k, v in stream.state_dict().items()}
    weights |= {f'box_head.{k}': v for k, v in head.state_dict().items()}
    save_file(weights | {'pfa.out.weight': torch.zeros(3)}, tmp_path / 'one.safetensors')
    return tmp_path / 'one.safetensors'


@torch.no_grad()
def test_all_streams_and_heads_start_from_one(one_stream):
    network = CkdWithTeachers(CONFIG)
    start_from_one_stream(network, one_stream)
    network.eval()
    image = torch.randn(2, 3, 64, 64)
    template = torch.randn(2, 3, 32, 32)
    taught = network.learn((template, template), (image, image))
    # The same images in all streams: all tokens are the same, and so are the teachers' maps.
    for students, teachers in zip(taught.student_taps, taught.teacher_taps):
        for tokens in (*students, *teachers):
            torch.testing.assert_close(tokens, students[0])
    torch.testing.assert_close(taught.maps[1].score, taught.maps[2].score)
    weight, own = (head.conv1_ctr[0].weight for head in (network.box_head, network.box_head_v))
    torch.testing.assert_close(weight, torch.cat([own, own], 1))


def test_weights_that_do_not_fit_are_refused(one_stream, tmp_path):
    wide = CkdWithTeachers(VitConfig(dim=64, depth=2, heads=2, ce_blocks=(), head_channels=16))
    with pytest.raises(TpfError, match=r'one\.safetensors does not fit the model; '):
        start_from_one_stream(wide, one_stream)
    with pytest.raises(TpfError, match='does not exist'):
        start_from_one_stream(wide, tmp_path / 'none.safetensors')


@torch.no_grad()
def test_a_trained_network_teaches_by_its_teachers_heads_and_its_students_tokens():
    torch.manual_seed(0)
    network = CkdWithTeachers(CONFIG).eval()
    teacher = CkdTeacher(Ckd(CONFIG), network)
    template, search = torch.randn(2, 2, 3, 32, 32), torch.randn(2, 2, 3, 64, 64)
    lesson = teacher(tuple(template), tuple(search))
    taught = network.learn(tuple(template), tuple(search))
    for path, at in (('rgb', 1), ('thermal', 2), ('fused', 0)):
        index = ('rgb', 'thermal', 'fused').index(path)
        torch.testing.assert_close(lesson.maps[index].score, taught.maps[at].score)
        assert lesson.features[index].shape[1] == teacher.widths[path]
    torch.testing.assert_close(lesson.taps[1][0], taught.student_taps[1][0])
