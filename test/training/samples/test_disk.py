"""Samples from disk lie in time order, crop both cameras alike, and mix with the world's."""

from dataclasses import replace
import os

import cv2
import numpy as np
import pytest
import torch
from tpf_tracker_ros.core.crops import Framing
from tpf_tracker_ros.core.depth import depth_colours
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.training.config import read_config
from tpf_tracker_ros.training.losses.tracking import compute_losses
from tpf_tracker_ros.training.samples.disk import aim, DataConfig, Footage, Mixture, read_views
from tpf_tracker_ros.training.samples.world import World, WorldConfig
from tpf_tracker_ros.training.stages.supervised import Supervised, SupervisedConfig
from tpf_tracker_ros.training.trainer import Trainer

WORLD = WorldConfig(backgrounds=7, background_size=64, sprites=8)
VIEWS = {'template_size': 64, 'search_size': 128, 'grid_z': 8, 'framing': Framing(aspect=2.0)}
SIZES = 64, 64, 128
ABSENT = slice(100, 140)  # frames of the long sequence that do not show the target


def write_lasher(folder, pairs, truth):
    """PNG frames, rgb (H, W, 3) and thermal (H, W), of a sequence in LasHeR's layout."""
    for camera in 'visible', 'infrared':
        (folder / camera).mkdir(parents=True)
    for index, (rgb, thermal) in enumerate(pairs):
        cv2.imwrite(str(folder / f'visible/{index:06}.png'), rgb[..., ::-1])
        cv2.imwrite(str(folder / f'infrared/{index:06}.png'), thermal)
    np.savetxt(folder / 'init.txt', truth, '%g', ',')


@pytest.fixture(scope='module')
def filmed(tmp_path_factory):
    """Root with two short films of the world, the thermal camera at 16 bit."""
    root = tmp_path_factory.mktemp('filmed')
    for seed in (1, 2):
        film = WorldSequence(seed, frames=8, size=(160, 128))
        pairs = [(pair.rgb, pair.thermal) for pair in film]
        write_lasher(root / f'film{seed}', pairs, film.ground_truth)
    return root


@pytest.fixture(scope='module')
def long_root(tmp_path_factory):
    """Root with one sequence of 450 frames, the same white rectangle in both cameras."""
    root = tmp_path_factory.mktemp('long')
    truth = np.tile([70.0, 50.0, 24.0, 16.0], (450, 1))
    image = np.zeros((120, 160), np.uint8)
    image[50:66, 70:94] = 255
    write_lasher(root / 'long', [(np.dstack([image] * 3), image)], truth)
    for camera in 'visible', 'infrared':
        for index in range(1, 450):
            folder = root / 'long' / camera
            os.link(folder / '000000.png', folder / f'{index:06}.png')
    truth[ABSENT] = 0
    np.savetxt(root / 'long/init.txt', truth, '%g', ',')
    return root


def config_of(root, **changes):
    return SupervisedConfig(
        steps=4, batch=3, warmup=10, log_every=1, save_every=1, world=WORLD,
        data=[DataConfig('lasher', str(root))],
    ) if not changes else replace(config_of(root), **changes)  # fmt: skip


def mixture_of(*data, world_weight=1.0, batch=4, world=WORLD):
    made = World(world, torch.Generator().manual_seed(0))
    return Mixture(
        made, list(data), world_weight=world_weight, batch=batch, views=VIEWS, seed=(5, 0)
    )


def test_event_images_are_trained_on_in_colours(tmp_path, write_sequence):
    write_sequence(tmp_path, 'visevent', 'car')
    footage = Footage(DataConfig('visevent', str(tmp_path)))
    view = read_views(footage.draw(np.random.default_rng(0), WORLD), SIZES)[0].astype(int)
    blue, red = view[..., 3], view[..., 5]
    assert red.max() > 100 and (np.abs(red // 4 - blue) <= 1).all()  # as write_sequence draws them


def test_depth_is_trained_on_in_the_colours_that_are_tracked(tmp_path, write_sequence, frames):
    write_sequence(tmp_path, 'depthtrack', 'car')
    footage = Footage(DataConfig('depthtrack', str(tmp_path), flip_share=0))
    sample = footage.draw(np.random.default_rng(0), WORLD)
    depth = np.uint16(20) * frames[0][sample.frames[2]].thermal
    wanted = sample.windows[2].take(depth_colours(depth), 128)
    np.testing.assert_array_equal(read_views(sample, SIZES)[2][..., 3:6], wanted)


def test_the_search_view_of_a_tiny_target_is_as_large_as_the_trackers():
    config = WorldConfig(search_scale=0.0, search_aspect=0.0)
    framing = Framing(template=1.5, search=3.0, smallest=20.0)
    for side, seen in ((8.0, 60), (20.0, 60), (30.0, 90)):
        boxes = np.tile([70.0, 50.0, side, side], (3, 1))
        windows, _ = aim(boxes, config, framing, np.random.default_rng(0))
        assert windows[2].width == windows[2].height == seen
        assert windows[0].width == 1.5 * side


def test_frames_are_causal_and_within_reach(long_root):
    footage, rng = Footage(DataConfig('lasher', str(long_root))), np.random.default_rng(0)
    frames = np.array([footage.draw(rng, WORLD).frames for _ in range(3000)])
    initial, dynamic, search = frames.T
    assert (initial < search).all() and (initial <= dynamic).all() and (dynamic < search).all()
    assert (search - initial).max() == 200
    assert not np.isin(frames, np.arange(450)[ABSENT]).any()
    assert len(np.unique(search)) > 400  # of the 409 that show it and are not the first
    assert 5 < np.median(search - dynamic) < 15  # an exponential of mean 15, cut at the initial


def test_a_shorter_reach_is_kept_across_a_gap(long_root):
    footage = Footage(DataConfig('lasher', str(long_root), reach=5))
    rng = np.random.default_rng(0)
    for _ in range(1000):
        initial, _, search = footage.draw(rng, WORLD).frames
        assert 0 < search - initial <= 5


def test_the_box_lands_on_the_target_in_both_cameras(long_root):
    footage, rng = Footage(DataConfig('lasher', str(long_root))), np.random.default_rng(0)
    seen, flips = 0, set()
    for _ in range(60):
        sample = footage.draw(rng, WORLD, framing=VIEWS['framing'])
        np.testing.assert_allclose(sample.windows[2].to_image(sample.box), [70, 50, 24, 16])
        views = read_views(sample, SIZES)
        for view in views:
            np.testing.assert_array_equal(view[..., 0], view[..., 3])
        cx, cy, w, h = sample.box * 128
        cx = 128 - cx if sample.flip else cx
        low, high = np.array([cx - w / 2, cy - h / 2]), np.array([cx + w / 2, cy + h / 2])
        if (low < 0).any() or (high > 128).any():
            continue  # partly beyond the search view
        rows, columns = np.nonzero(views[2][..., 3] > 127)
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(found - [*low, *high]).max() < 1.5
        seen, flips = seen + 1, flips | {sample.flip}
    assert seen > 20 and flips == {False, True}


@pytest.mark.parametrize('wide_share', [0.0, 1.0])
def test_jitter_is_as_wide_as_the_worlds(long_root, wide_share):
    world = replace(WORLD, absent_share=0.0, lured_share=0.0, wide_share=wide_share)
    views = VIEWS | {'framing': Framing(wide=8.0, aspect=2.0)}
    footage, rng = Footage(DataConfig('lasher', str(long_root))), np.random.default_rng(0)
    real = np.array([footage.draw(rng, world, framing=views['framing']).box for _ in range(800)])
    made = World(world, torch.Generator().manual_seed(0)).sample(200, **views).box.numpy()
    made = made[made[:, 0] > -1]  # the rest is hidden by an object
    np.testing.assert_allclose(real[:, :2].mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(real[:, :2].std(0), made[:, :2].std(0), atol=0.03)
    size = 0.125 if wide_share else 0.25
    for boxes in real, made:
        assert np.sqrt(boxes[:, 2:].prod(1)).mean() == pytest.approx(size, rel=0.08)
    assert np.log(real[:, 2] / real[:, 3]).std() > 0.05


def test_beyond_the_image_a_degraded_view_stays_zero(long_root):
    mixture = mixture_of(DataConfig('lasher', str(long_root), flip_share=0), world_weight=0.0)
    samples = [sample for number in range(4) for sample in mixture.plan(number)]
    for number, batch in zip(range(4), mixture.batches(0)):
        for at, sample in enumerate(samples[slice(4 * number, 4 * number + 4)]):
            window = sample.windows[2]
            outside = round(max(0, -window.x) / window.width * 128) - 1
            for image in batch.rgb[2][at], batch.thermal[2][at]:
                assert image.shape == (3, 128, 128)
                assert not image[..., : max(outside, 0)].any()
    assert any(sample.windows[2].x < -10 for sample in samples)


def test_raw_thermal_counts_become_an_image(filmed):
    footage, rng = Footage(DataConfig('lasher', str(filmed))), np.random.default_rng(0)
    views = read_views(footage.draw(rng, replace(WORLD, absent_share=0.0)), SIZES)
    assert all(view.dtype == np.uint8 for view in views)
    assert views[2][..., 3][views[2][..., 4] > 0].std() > 20


@pytest.mark.parametrize('dataset', ['lasher', 'rgbt234', 'rgbt210', 'gtot', 'vtuav'])
def test_real_layouts_show_one_target_in_all_views(write_sequence, tmp_path, dataset):
    write_sequence(tmp_path / 'train', dataset, 'walk')
    footage = Footage(DataConfig(dataset, str(tmp_path), flip_share=0.0))
    world, rng = replace(WORLD, absent_share=0.0, search_shift=0.33), np.random.default_rng(0)
    alike = []
    for _ in range(10):
        sample = footage.draw(rng, world)
        if dataset == 'vtuav':
            assert set(sample.frames) == {0, 10}  # those with ground truth
        template, _, search = read_views(sample, SIZES)
        cx, cy, w, h = sample.box * 128
        top, bottom, left, right = map(round, (cy - h, cy + h, cx - w, cx + w))
        patch = search[top:bottom, left:right]
        for channel in 1, 3:  # green, thermal: twice the box is what a template shows
            again = cv2.resize(np.ascontiguousarray(patch[..., channel]), (64, 64))
            alike.append(np.corrcoef(again.ravel(), template[..., channel].ravel())[0, 1])
    assert np.median(alike) > 0.7


def test_samples_are_mixed_by_weight_and_follow_from_the_seed(filmed, long_root):
    sources = [
        DataConfig('lasher', str(filmed), weight=3.0),
        DataConfig('lasher', str(long_root), weight=2.0),
    ]
    mixture = mixture_of(*sources, world_weight=5.0, batch=20)
    plans = [mixture.plan(number) for number in range(100)]
    names = [sample and sample.sequence.name for plan in plans for sample in plan]
    shares = [np.mean([str(name).startswith(kind) for name in names])
              for kind in ('None', 'film', 'long')]  # fmt: skip
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.03)
    again = mixture_of(*sources, world_weight=5.0, batch=20).plan(7)
    assert [s and (s.frames, s.windows) for s in again] == [
        s and (s.frames, s.windows) for s in plans[7]
    ]


def test_a_mixed_batch_is_in_the_order_of_its_plan(filmed):
    mixture = mixture_of(DataConfig('lasher', str(filmed), flip_share=0.0), batch=8)
    plan, batch = mixture.plan(3), next(mixture.batches(3))
    real = [sample is not None for sample in plan]
    assert 0 < sum(real) < 8
    assert batch.matches.flatten(1).any(1).tolist() == [not each for each in real]
    for at in np.flatnonzero(real):
        np.testing.assert_allclose(batch.box[at], plan[at].box, rtol=1e-5)
    for image in (*batch.rgb, *batch.thermal):
        assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1


def test_samples_without_matches_teach_boxes_alone(filmed, tmp_path):
    training = Trainer(Supervised, config_of(filmed, world_weight=0.0), tmp_path)
    batch = training.sample()
    assert not batch.seen.any()
    terms = compute_losses(training.stage.model, batch, dynamic=True)
    assert terms.matching == 0 and terms.score > 0
    (terms.matching + terms.score).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in training.trained)


def test_a_resumed_run_sees_the_same_samples(filmed, tmp_path):
    whole = Trainer(Supervised, config_of(filmed), tmp_path / 'whole')
    whole.run()
    for steps in (2, 4):
        parts = Trainer(Supervised, config_of(filmed, steps=steps), tmp_path / 'parts')
        parts.run()
    assert parts.step == whole.step == 4
    torch.testing.assert_close(
        parts.average.state_dict(), whole.average.state_dict(), rtol=0, atol=0
    )
    only_world = Trainer(Supervised, config_of(filmed, data=[]), tmp_path / 'world')
    only_world.run()
    assert any(not torch.equal(a, b) for a, b in zip(only_world.trained, whole.trained))


def test_an_experiment_lists_its_datasets(tmp_path):
    path = tmp_path / 'mine.toml'
    path.write_text(
        'world_weight = 2\n[world]\nsprites = 8\n'
        '[[data]]\ndataset = "lasher"\nroot = "/data/LasHeR"\nweight = 3\n'
        '[[data]]\ndataset = "vtuav"\nroot = "/data/VTUAV"\n'
    )
    config = read_config(path, SupervisedConfig)
    assert config.world_weight == 2.0 and config.data == [
        DataConfig('lasher', '/data/LasHeR', weight=3.0), DataConfig('vtuav', '/data/VTUAV'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('text', 'rule'),
    [
        ('[[data]]\ndataset="gtot"\nroot="/"\n[[data]]\nwieght = 1',
         r"bad.toml \[\[data\]\] 2: unknown key 'wieght'; known are dataset, root"),
        ('[[data]]\ndataset = "gtot"', r'\[\[data\]\] 1: root is missing and has no default'),
        ('[[data]]\nroot = 3', r'\[\[data\]\] 1: root is 3, of type int; it must be of type str'),
        ('[data]\nroot = "/"', r'list of tables, each under a heading in \[\[ \]\]'),
        ('data = ["gtot"]', 'it must be of type list of tables'),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused(tmp_path, text, rule):
    path = tmp_path / 'bad.toml'
    path.write_text(text)
    with pytest.raises(TpfError, match=rule):
        read_config(path, SupervisedConfig)


def test_what_cannot_be_trained_on_is_one_line(filmed, tmp_path):
    def refused(rule, dataset='lasher', root=filmed, **changes):
        with pytest.raises(TpfError, match=rule) as caught:
            Footage(DataConfig(dataset, str(root), **changes))
        assert '\n' not in str(caught.value)

    refused('none is not a folder', root=tmp_path / 'none')
    refused(r"has no vtuav sequences: no folder holds 'ir'", 'vtuav')
    refused('antiuav has no RGB', 'antiuav')
    refused("unknown dataset 'laser'", 'laser')
    (tmp_path / 'list.txt').write_text('film1\nfilm9\n')
    refused('lacks 1 listed sequences: film9', sequences=str(tmp_path / 'list.txt'))
    refused('no.txt cannot be read', sequences=str(tmp_path / 'no.txt'))
    refused('none of 2 sequences is usable', reach=0)
    with pytest.raises(TpfError, match=r'\[0.0, 0.0\]; none may be negative, and one'):
        mixture_of(DataConfig('lasher', str(filmed), weight=0.0), world_weight=0.0)


def test_a_listed_part_is_used_alone(filmed, tmp_path):
    (tmp_path / 'list.txt').write_text('film2\n')
    footage = Footage(DataConfig('lasher', str(filmed), sequences=str(tmp_path / 'list.txt')))
    rng = np.random.default_rng(0)
    assert {footage.draw(rng, WORLD).sequence.name for _ in range(20)} == {'film2'}


def test_short_sequences_are_left_out_and_counted(tmp_path, caplog):
    image = np.zeros((60, 80), np.uint8)
    pairs = [(np.dstack([image] * 3), image)] * 3
    box, nothing = [10, 10, 8, 8], [0, 0, 0, 0]
    write_lasher(tmp_path / 'good', pairs, [box, nothing, box])
    write_lasher(tmp_path / 'once', pairs, [box, nothing, nothing])
    write_lasher(tmp_path / 'unlabelled', pairs, [box] * 3)
    (tmp_path / 'unlabelled/init.txt').unlink()
    footage = Footage(DataConfig('lasher', str(tmp_path)))
    assert '2 sequences left out: no two frames with a box within 200' in caplog.text
    sample = footage.draw(np.random.default_rng(0), WORLD)
    assert sample.sequence.name == 'good' and sample.frames == (0, 0, 2)


def test_a_broken_image_stops_the_run_by_its_name(filmed, tmp_path):
    film = WorldSequence(1, frames=3, size=(160, 128))
    pairs = [(pair.rgb, pair.thermal) for pair in film]
    write_lasher(tmp_path / 'data/torn', pairs, film.ground_truth)
    for file in (tmp_path / 'data/torn/infrared').iterdir():
        file.write_bytes(file.read_bytes()[:40])
    training = Trainer(Supervised, config_of(tmp_path / 'data'), tmp_path / 'run')
    with pytest.raises(TpfError, match=r'sequence torn, frame \d: .*infrared/00000\d\.png: '):
        training.run()
