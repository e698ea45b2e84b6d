from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tpf_tracker_ros.core.crops import Framing, SQUARE
from tpf_tracker_ros.data.textures import (
    cut_out,
    paint_backgrounds,
    paint_sprites,
    support,
    TextureConfig,
)
from tpf_tracker_ros.training.samples.sensors import SensorConfig
from tpf_tracker_ros.training.samples.world import Batch, INITIAL, SEARCH, World, WorldConfig

CLEAN = SensorConfig(
    coarse_share=0, dark_share=0, glare_share=0, crossover_share=0, rgb_absent_share=0,
    thermal_absent_share=0, blur_share=0, noise=0, border_share=0,
)  # fmt: skip
POOL = {'backgrounds': 7, 'background_size': 96, 'sprites': 20}


def draw(batch: int = 16, seed: int = 0, framing: Framing = SQUARE, **config: object) -> Batch:
    world = World(WorldConfig(**POOL, **config), torch.Generator().manual_seed(seed))
    return world.sample(batch, template_size=64, search_size=128, grid_z=8, framing=framing)


def test_shapes_and_ranges():
    batch = draw()
    for images in (batch.rgb, batch.thermal):
        assert [image.shape for image in images] == [(16, 3, 64, 64)] * 2 + [(16, 3, 128, 128)]
        assert all(image.min() >= 0 and image.max() <= 1 for image in images)
    assert batch.box.shape == (16, 4)
    assert batch.matches.shape == (16, 2, 64, 2) and batch.seen.shape == (16, 2, 64)


@pytest.mark.parametrize(('wide_share', 'factor'), [(0.0, 3), (1.0, 6)])
def test_views_show_as_much_as_the_framing_says(wide_share, factor):
    framing = Framing(template=1.5, search=3, wide=6, aspect=3)
    there = {'absent_share': 0, 'lured_share': 0, 'occlusion_share': 0}
    batch = draw(64, wide_share=wide_share, framing=framing, **there)
    sides = batch.box[:, 2:].prod(1).sqrt()
    assert sides.log().mean().exp().item() == pytest.approx(1 / factor, rel=0.1)
    box = batch.box[batch.box[:, 0] > -1]  # an object may hide one by chance
    low, high = box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2
    assert (
        len(box) > 60 and (low > -0.15).all() and (high < 1.15).all()
    )  # shifts leave the target in the view


def test_tiny_targets_come_in_larger_windows_and_with_few_pixels():
    framing = Framing(template=1.5, search=3, smallest=20)
    there = {'absent_share': 0, 'lured_share': 0, 'occlusion_share': 0}
    sharpness = {}
    for pixels, factor in ((10, 6), (20, 3), (45, 3)):
        sensors = replace(CLEAN, coarse_share=1, coarse_least=pixels, coarse_most=pixels)
        batch = draw(64, framing=framing, sensors=sensors, **there)
        sides = batch.box[:, 2:].prod(1).sqrt()
        assert sides.log().mean().exp().item() == pytest.approx(1 / factor, rel=0.1)
        template = batch.rgb[INITIAL]
        sharpness[pixels] = (template[..., 1:] - template[..., :-1]).abs().mean().item()
    assert sharpness[10] < sharpness[20] < sharpness[45]


def test_objects_touch_the_target_as_often_as_asked():
    apart, touching = (
        draw(48, touch_share=share, patch_share=0, lured_share=0, sensors=CLEAN)
        for share in (0, 1)
    )
    torch.testing.assert_close(apart.box, touching.box)
    changed = (apart.rgb[SEARCH] - touching.rgb[SEARCH]).abs().amax((1, 2, 3)) > 0.05
    assert changed.float().mean() > 0.8
    torch.testing.assert_close(apart.rgb[INITIAL], touching.rgb[INITIAL])


def test_a_hidden_target_counts_as_absent_and_a_covered_one_keeps_its_box():
    free, covered = (draw(96, occlusion_share=n, patch_share=0, sensors=CLEAN) for n in (0, 1))
    hidden = free.box[:, 0] - covered.box[:, 0] > 1
    assert 0.01 < hidden.float().mean() < 0.3
    assert (covered.box[hidden, :2] < 0).all()
    covers = ~hidden & (free.box[:, 0] > -1)
    torch.testing.assert_close(covered.box[covers], free.box[covers])
    middle = covered.seen[:, 0].unflatten(1, (8, 8))[:, 3:5, 3:5].float().mean((1, 2))
    assert middle[hidden].mean() <= 0.2 < middle[covers].mean()


def test_a_lured_view_shows_a_distractor_in_its_middle():
    """So the target is in view where it touches the distractor, and seldom elsewhere."""
    apart, touching = (
        draw(48, touch_share=share, lured_share=1, patch_share=0, wide_share=0, sensors=CLEAN)
        for share in (0, 1)
    )
    near = ((apart.box[:, :2] - 0.5).abs().amax(1) < 0.5).float().mean()
    nearer = ((touching.box[:, :2] - 0.5).abs().amax(1) < 0.5).float().mean()
    assert near < 0.6 < nearer


def test_a_seed_gives_the_same_batch():
    a, b = draw(seed=5), draw(seed=5)
    torch.testing.assert_close(a.rgb[SEARCH], b.rgb[SEARCH], rtol=0, atol=0)
    assert not torch.equal(a.rgb[SEARCH], draw(seed=6).rgb[SEARCH])


@pytest.mark.parametrize('patch_share', [0.0, 1.0])
def test_matched_places_look_alike(patch_share):
    """The known matches carry the template's colours to the search view: this is the signal."""
    batch = draw(48, sensors=CLEAN, patch_share=patch_share)

    def colours(image: torch.Tensor, spots: torch.Tensor) -> torch.Tensor:
        soft = F.avg_pool2d(image, 5, 1, 2)
        return F.grid_sample(soft, spots[:, None] * 2 - 1, align_corners=False)[:, :, 0]

    line = (torch.arange(8) + 0.5) / 8
    tokens = torch.stack(torch.meshgrid(line, line, indexing='xy'), -1).reshape(1, 64, 2)
    there = colours(batch.rgb[0], tokens.expand(48, -1, -1)).mean(1)  # (B, 64) brightness
    here = colours(batch.rgb[SEARCH], batch.matches[:, 0]).mean(1)

    def related(a: torch.Tensor, b: torch.Tensor) -> float:
        """Mean correlation over the seen tokens: each view has its own light."""
        pairs = [
            torch.corrcoef(torch.stack([x[seen], y[seen]]))[0, 1]
            for x, y, seen in zip(a, b, batch.seen[:, 0])
            if seen.sum() > 8
        ]
        return torch.stack(pairs).nanmean().item()

    assert related(there, here) > 0.7
    assert abs(related(there.flip(1), here)) < 0.5


def test_most_targets_lie_in_the_search_view_and_some_do_not():
    centres = torch.cat([draw(64, seed=seed, absent_share=0.2).box[:, :2] for seed in range(3)])
    inside = ((centres > 0) & (centres < 1)).all(1).float().mean()
    assert 0.7 < inside < 0.9


def test_an_absent_camera_is_replaced_by_the_other():
    absent = SensorConfig(thermal_absent_share=1.0, rgb_absent_share=0.0, sound_share=0.5)
    batch = draw(64, sensors=absent)
    same = [(a == b).flatten(1).all(1) for a, b in zip(batch.rgb, batch.thermal)]
    assert 0.3 < same[SEARCH].float().mean() < 0.7
    assert all((each == same[SEARCH]).all() for each in same)  # sound samples are so in all views


def test_sound_views_are_the_same_but_for_cameras_that_fail():
    world, plain = (World(WorldConfig(**POOL), torch.Generator().manual_seed(0)) for _ in range(2))
    sizes = {'template_size': 32, 'search_size': 64, 'grid_z': 8}
    batch, without = world.sample(32, **sizes, sound=True), plain.sample(32, **sizes)
    torch.testing.assert_close(batch.rgb[SEARCH], without.rgb[SEARCH], rtol=0, atol=0)
    torch.testing.assert_close(batch.box, without.box, rtol=0, atol=0)
    assert without.sound_views is None
    for seen, sound in ((batch.rgb, batch.sound_views.rgb),
                        (batch.thermal, batch.sound_views.thermal)):  # fmt: skip
        for view, other in zip(seen, sound):
            same = (view == other).flatten(1).all(1)
            assert same[batch.sound].all()
        assert not same[~batch.sound].all()
    again, more = world.sample(2, **sizes), plain.sample(2, **sizes)
    torch.testing.assert_close(again.rgb[SEARCH], more.rgb[SEARCH], rtol=0, atol=0)


def test_silhouettes_stay_within_their_support():
    masks = cut_out(10, 48, torch.Generator().manual_seed(0))
    reach = support(masks)
    right, down = reach[:, 0], reach[:, 16]
    for mask, x, y in zip(masks > 0.5, right, down):
        rows, columns = mask.nonzero().unbind(1)
        assert x.item() == pytest.approx(2 * (columns.max().item() + 1) / 48 - 1, abs=1e-4)
        assert y.item() == pytest.approx(2 * (rows.max().item() + 1) / 48 - 1, abs=1e-4)


def test_colour_and_temperature_are_independent_enough():
    textures = paint_backgrounds(14, 64, torch.Generator().manual_seed(0))
    grey, heat = textures[:, :3].mean(1).flatten(1), textures[:, 3].flatten(1)
    related = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(grey, heat)])
    assert related.abs().mean() < 0.6
    config = TextureConfig(grey_share=1, tone=(0.4, 0.4), heat_follows=0, heat_grain=0)
    textures = paint_backgrounds(4, 32, torch.Generator().manual_seed(0), config)
    assert torch.allclose(textures[:, 0], textures[:, 2]) and textures[:, 0].std() > 0.01
    assert torch.allclose(textures[:, 3], torch.tensor(0.4))
    sprites = paint_sprites(20, 32, torch.Generator().manual_seed(0))
    assert sprites.shape == (20, 5, 32, 32)
    assert (sprites[:, 4].flatten(1).amax(1) > 0.9).all()
