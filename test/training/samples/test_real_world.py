import cv2
import numpy as np
import pytest
import torch
from tpf_tracker_ros.core.crops import Framing, Window
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.training.samples.pack import CUTOUT, Pack
from tpf_tracker_ros.training.samples.real import draw_heat, RealConfig, take_windows
from tpf_tracker_ros.training.samples.real_world import open_world, RealWorld
from tpf_tracker_ros.training.samples.sensors import SensorConfig
from tpf_tracker_ros.training.samples.world import INITIAL, SEARCH, WorldConfig

VIEWS = {'template_size': 64, 'search_size': 128, 'grid_z': 8, 'framing': Framing(1.5, 3.0)}
# Cameras that change nothing.
PLAIN = SensorConfig(
    sound_share=1.0, light=(1.0, 1.0), white_balance=(1.0, 1.0), thermal_gain=(1.0, 1.0),
    thermal_level=(0.0, 0.0), noise=0.0, border_share=0.0,
)  # fmt: skip


@pytest.fixture(scope='module')
def pack(tmp_path_factory) -> str:
    """Make a photograph, a bright target in three thermal and three film images, a cut-out."""
    folder = tmp_path_factory.mktemp('pack')
    made, rng = Pack(folder), np.random.default_rng(0)
    made.add_image(rng.integers(0, 255, (200, 300, 3), np.uint8), 'photo')
    for kind in ('thermal', 'film'):
        seen = []
        for x in (60, 80, 100):
            image = np.full((200, 300), 40, np.uint8)
            image[90:120, x : x + 40] = 220  # noqa: E203
            shown = np.repeat(image[..., None], 3, -1) if kind == 'film' else image
            seen.append((made.add_image(shown, kind), np.array([x, 90.0, 40, 30])))
        made.add_track('car', seen)
    ellipse = np.zeros((CUTOUT, CUTOUT, 4), np.uint8)
    cv2.ellipse(ellipse, (32, 32), (28, 28), 0, 0, 360, (200, 30, 30, 255), -1)
    made.add_cutouts('intel_car-detection', [ellipse, ellipse], [2.0, 2.0])
    made.close()
    return str(folder)


def world(pack: str, seed: int = 0, sensors: SensorConfig = PLAIN, **real: float) -> RealWorld:
    config = WorldConfig(
        backgrounds=7, background_size=96, sprites=20, absent_share=0.0, sensors=sensors,
        real=RealConfig(folder=pack, crops=2, thermal_step=1, **real),
    )  # fmt: skip
    return open_world(config, torch.Generator().manual_seed(seed))


def test_the_same_seed_gives_the_same_batch(pack):
    one, other = (world(pack, 3, SensorConfig()).sample(10, **VIEWS) for _ in range(2))
    torch.testing.assert_close(one.rgb[SEARCH], other.rgb[SEARCH], rtol=0, atol=0)
    torch.testing.assert_close(one.box, other.box, rtol=0, atol=0)
    assert one.rgb[INITIAL].shape == (10, 3, 64, 64) and one.thermal[SEARCH].shape[-1] == 128
    assert one.seen[:7].any(-1).any() and not one.seen[7:].any()  # 3 of 10 are tracked


@pytest.mark.parametrize('film_share', [0.0, 1.0])
def test_a_tracked_box_holds_the_target_in_the_search_view(pack, film_share):
    drawn = world(pack, 1, film_share=film_share, still_share=0.0, alone_share=1.0)
    batch = drawn.sample_tracked(12, **VIEWS)
    line = (torch.arange(128) + 0.5) / 128
    for view, box in zip(batch.rgb[SEARCH][:, 0], batch.box):
        cx, cy, w, h = box
        columns, rows = (line - cx).abs() < w / 2 - 0.02, (line - cy).abs() < h / 2 - 0.02
        inside = rows[:, None] & columns
        beyond = ((line - cy).abs() > h / 2 + 0.02)[:, None] | ((line - cx).abs() > w / 2 + 0.02)
        assert view[inside].min() > 0.7 and view[beyond].max() < 0.3
    torch.testing.assert_close(batch.rgb[SEARCH], batch.thermal[SEARCH])  # one stands in


def test_beside_a_thermal_image_rgb_is_dark(pack):
    drawn = world(pack, film_share=0.0, alone_share=0.0, night_light=(0.1, 0.1))
    batch = drawn.sample_tracked(4, **VIEWS)
    torch.testing.assert_close(batch.rgb[INITIAL], 0.1 * batch.thermal[INITIAL])


def test_real_cut_outs_keep_their_shape_and_their_film(pack):
    drawn = world(pack, sprite_share=1.0)
    sprite = drawn._draw_sprites(50)
    aged = drawn._age_sprites(sprite)  # (B, V, objects)
    assert (sprite >= 20).all() and (aged[:, 0] == sprite).all()
    assert (aged != sprite[:, None]).any()
    runs = (aged - 20) // 2  # the two cut-outs of a run, by night and by day
    assert (runs == runs[:, :1]).all()
    assert (drawn._aspect[:20] == 0).all()
    torch.testing.assert_close(drawn._aspect[20:], torch.full((4,), 2.0).log())


def test_windows_are_cut_as_the_tracker_cuts_them():
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 3)
    window = Window(-10, 20, 48, 48)  # beyond the left edge, upsampled a little
    taken = take_windows(
        torch.from_numpy(image).permute(2, 0, 1)[None],
        torch.tensor([[80, 60]]),
        torch.tensor([[-10.0, 20, 48, 48]]),
        64,
    )[0]
    expected = window.take(image, 64) / 255
    inside = taken[3] == 1
    assert 0.4 < inside.float().mean() < 0.75
    difference = np.abs(taken[:3].permute(1, 2, 0).numpy() - expected)[inside.numpy()]
    assert difference.mean() < 0.01


def test_heat_is_a_function_of_colour():
    heat = draw_heat(1, torch.Generator().manual_seed(0))
    colour = torch.tensor([[1.0, 0, 0], [0, 0, 1]]).view(2, 3, 1, 1).expand(-1, -1, 4, 4)
    warm = heat(colour)
    assert warm.shape == (2, 1, 4, 4) and (warm[0] == warm[0, 0, 0, 0]).all()
    assert warm[0, 0, 0, 0] != warm[1, 0, 0, 0]


def test_a_folder_that_is_no_pack_is_one_clear_error(tmp_path):
    with pytest.raises(TpfError, match=r'holds no pack\.json; make it by `tpf train pack`'):
        world(str(tmp_path))
