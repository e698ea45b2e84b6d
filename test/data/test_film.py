import numpy as np
from tpf_tracker_ros.data.film import CROSSOVER, DARK, WorldSequence


def test_a_film_is_made_of_its_seed():
    a, b = (WorldSequence(2, frames=4, size=(160, 128)) for _ in range(2))
    for one, other in zip(a, b):
        np.testing.assert_array_equal(one.rgb, other.rgb)
        np.testing.assert_array_equal(one.thermal, other.thermal)
    assert [pair.stamp for pair in a] == [0, 33333333, 66666667, 100000000]
    np.testing.assert_array_equal(a.ground_truth, b.ground_truth)


def test_frames_have_the_stated_form():
    sequence = WorldSequence(1, frames=6, size=(320, 256))
    pairs = list(sequence)
    assert len(sequence) == len(pairs) == len(sequence.ground_truth) == 6
    assert pairs[0].rgb.shape == (256, 320, 3) and pairs[0].rgb.dtype == np.uint8
    assert pairs[0].thermal.dtype == np.uint16
    assert 7000 < np.median(pairs[0].thermal) < 7900  # a scene of a few degrees
    x, y, w, h = sequence.ground_truth.T
    assert (x >= 0).all() and (y >= 0).all() and (x + w <= 320).all() and (y + h <= 256).all()


def test_the_box_holds_what_the_target_changes():
    """Drawn with and without its target, a frame differs inside the box and nowhere else."""
    sequence = WorldSequence(4, frames=30, size=(320, 256))
    for frame in (0, 15, 29):
        with_target = sequence._draw(frame)
        painted = sequence._sprites[0].copy()
        sequence._sprites[0, ..., 4] = 0
        differs = np.abs(with_target - sequence._draw(frame)).max(-1) > 0.02
        sequence._sprites[0] = painted
        rows, columns = np.nonzero(differs)
        x, y, w, h = sequence.ground_truth[frame]
        assert columns.min() >= x - 2.5 and columns.max() <= x + w + 1.5
        assert rows.min() >= y - 2.5 and rows.max() <= y + h + 1.5


def test_the_light_goes_out_and_the_temperatures_cross():
    sequence = WorldSequence(4, frames=50, size=(160, 128))
    light = np.array([pair.rgb.mean() for pair in sequence])
    dark = slice(int(DARK[0] * 50) + 1, int(DARK[1] * 50) - 1)
    assert light[dark].max() < 0.3 * light[: dark.start - 2].min()
    assert CROSSOVER[0] > DARK[1]  # never both: one camera always shows the target
