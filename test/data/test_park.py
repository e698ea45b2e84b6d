import numpy as np
import pytest
from tpf_tracker_ros.data.film import CROSSOVER, DARK
from tpf_tracker_ros.data.park import drive, PARK, ParkSequence


@pytest.fixture(scope='module')
def film() -> ParkSequence:
    return ParkSequence(0, frames=20)


def test_the_film_is_made_of_its_seed(film):
    for one, other in zip(film, ParkSequence(0, frames=20)):
        np.testing.assert_array_equal(one.rgb, other.rgb)
        np.testing.assert_array_equal(one.thermal, other.thermal)
    assert len(film) == 20 and one.rgb.shape == (512, 640, 3) and one.thermal.dtype == np.uint16
    assert np.abs(ParkSequence(1, frames=20).ground_truth - film.ground_truth).max() > 5


@pytest.mark.parametrize('seed', range(5))
def test_the_target_is_in_sight_throughout_and_drives_forwards(seed):
    film = ParkSequence(seed, frames=60)
    x, y, w, h = film.ground_truth.T
    assert (x > 0).all() and (y > 0).all() and (x + w < 640).all() and (y + h < 512).all()
    assert w.min() > 30 and h.min() > 30
    steps = np.diff(film._centres[0] + film._pan, axis=0)
    ahead = np.stack([np.sin(film._angles[0]), -np.cos(film._angles[0])], -1)[1:]
    along = (steps * ahead).sum(-1) / np.linalg.norm(steps, axis=-1)
    assert along.min() > 0.9


def test_the_box_holds_the_car(film):
    for frame in (0, 7, 14):
        with_target = film._draw(frame)
        painted = film._sprites[0].copy()
        film._sprites[0, ..., 4] = 0
        differs = np.abs(with_target - film._draw(frame)).max(-1) > 0.05
        film._sprites[0] = painted
        rows, columns = np.nonzero(differs)
        x, y, w, h = film.ground_truth[frame]
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        np.testing.assert_allclose(found, [x, y, x + w, y + h], atol=4)


def test_it_gets_dark_and_the_temperatures_cross(film):
    light = np.array([pair.rgb.mean() for pair in film])
    dark = slice(int(DARK[0] * 20) + 1, int(DARK[1] * 20) - 1)
    assert light[dark].max() < 0.3 * light[:4].min()
    warm = []
    for frame in (2, int(CROSSOVER[0] * 20) + 1):
        x, y, w, h = np.int64(film.ground_truth[frame])
        heat = film._draw(frame)[..., 3]
        rows, columns = slice(y + h // 3, y + 2 * h // 3), slice(x + w // 3, x + 2 * w // 3)
        middle = heat[rows, columns].mean()
        around = np.median(heat[y - 15 : y + h + 15, x - 15 : x + w + 15])  # noqa: E203
        warm.append(abs(middle - around))
    assert warm[0] > 3 * warm[1]


def test_a_route_is_driven_evenly_from_end_to_end():
    place, heading = drive(np.array([[0.0, 0], [0, -100], [100, -100]]), np.linspace(0, 1, 50))
    np.testing.assert_allclose(place[[0, -1]], [[0, 0], [100, -100]])
    steps = np.linalg.norm(np.diff(place, axis=0), axis=1)
    assert np.ptp(steps) < 0.1 * steps.mean()
    np.testing.assert_allclose(heading[[0, -1]], [0, np.pi / 2], atol=1e-6)


def test_the_pictures_are_small_and_credited():
    assert sum(path.stat().st_size for path in PARK.iterdir()) < 3e6
    credits = (PARK / 'CREDITS.md').read_text()
    for path in PARK.iterdir():
        assert path.name in credits or path.name == 'CREDITS.md'
    assert 'BSD 2-Clause' in credits and 'Creative Commons Attribution 4.0' in credits
