"""
The demo's film: cars that drive through a park, seen from a drone, by day and in darkness.

Real photographs of a place and of cars (data/park, with their credits), put together; what the
thermal camera shows is rendered: asphalt is warm, trees and shadows are not, an engine is hot.
"""

from pathlib import Path

import cv2
import numpy as np
from tpf_tracker_ros.data.film import DARK, NIGHT, WorldSequence

PARK = Path(__file__).parent / 'park'
ZOOM = 1.25  # px of the film for each of the photograph
DUSK = 0.05  # share of the film in which night falls, and in which day breaks
CAR = 16.5, 33.0  # px of the photograph, half width and half length

# Along the middle of the lanes, in px of the photograph. The first route is the target's.
ROUTES = (
    ((612, 342), (650, 275), (672, 200), (610, 183), (520, 196), (430, 205),
     (340, 218), (290, 290), (288, 380), (305, 450), (345, 500)),
    ((760, -60), (710, 60), (688, 150), (650, 270), (598, 370), (540, 470), (470, 570)),
    ((30, -40), (35, 90), (95, 170), (190, 215), (245, 270), (240, 340), (205, 420), (110, 490),
     (30, 560)),
    ((325, -40), (322, 90), (290, 175), (200, 190), (110, 150), (50, 80), (25, -40)),
)  # fmt: skip


class ParkSequence(WorldSequence):
    """
    A film of four cars with ground truth; a WorldSequence in a real place.

    The seed decides on the camera's path, on which car the target is and on when the others come.
    """

    def __init__(
        self,
        seed: int,
        *,
        frames: int = 300,
        size: tuple[int, int] = (640, 512),
        fps: float = 30.0,
    ) -> None:
        super().__init__(seed, frames=frames, size=size, fps=fps, objects=len(ROUTES))
        self.name = f'park-{seed}'

    def _make_scene(self, objects: int) -> None:
        photo = _read(PARK / 'park.jpg', cv2.IMREAD_COLOR)
        place = np.dstack([photo, _heat_of_place(photo)])
        self._ground = cv2.resize(place, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
        strip = _read(PARK / 'cars.png', cv2.IMREAD_UNCHANGED)
        cars = [
            cv2.resize(car, (96, 96), interpolation=cv2.INTER_AREA)
            for car in np.split(strip, objects, axis=1)
        ]
        cars = np.roll(cars, -(self._seed % objects), axis=0)
        heat = np.stack([_heat_of_car(car[..., :3]) for car in cars])
        self._sprites = np.concatenate([cars[..., :3], heat[..., None], cars[..., 3:]], -1)

    def _light(self, share: float) -> float:
        return float(
            np.interp(
                share, [DARK[0], DARK[0] + DUSK, DARK[1] - DUSK, DARK[1]], [1, NIGHT, NIGHT, 1]
            )
        )

    def _plan_paths(self, rng: np.random.Generator, objects: int) -> None:
        """Where the cars are and head for in each frame, and the camera's pan."""
        time = np.linspace(0, 1, self._frames)
        room = (np.array(self._ground.shape[1::-1]) - self._size) / 2
        places, headings = [], []
        for index, route in enumerate(ROUTES):
            start = 0.0 if index == 0 else rng.uniform(-0.05, 0.0)
            place, heading = drive(np.array(route) * ZOOM, time + start)
            places.append(place)
            headings.append(heading)
        # The camera follows the target loosely, as far as the photograph reaches.
        wanted = places[0] - np.array(self._ground.shape[1::-1]) / 2
        sway = 25 * np.sin(time[:, None] * rng.uniform(4, 9, 2) + rng.uniform(0, 6, 2))
        self._pan = (0.75 * wanted + sway).clip(-room, room)
        self._centres = np.stack(places) - room - self._pan
        self._angles = np.stack(headings)
        self._halves = np.broadcast_to(np.array(CAR) * ZOOM, (objects, self._frames, 2))


def drive(route: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Places (N, 2) and headings (N,) in radians, 0 is up and clockwise, along a route (P, 2).

    share: (N,) of the way, evenly fast; the corners of the route are rounded off.
    """
    for _ in range(4):  # Chaikin's corner cutting
        one, other = route[:-1], route[1:]
        cut = np.stack([0.75 * one + 0.25 * other, 0.25 * one + 0.75 * other], 1).reshape(-1, 2)
        route = np.concatenate([route[:1], cut, route[-1:]])
    way = np.concatenate([[0], np.linalg.norm(np.diff(route, axis=0), axis=1).cumsum()])

    def at(share: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(share * way[-1], way, line) for line in route.T], -1)

    ahead = at(share + 0.02) - at(share - 0.02)
    return at(share), np.unwrap(np.arctan2(ahead[:, 0], -ahead[:, 1]))


def _read(path: Path, how: int) -> np.ndarray:
    """Return an image float32 (H, W, 3 or 4) in 0..1, R, G, B first."""
    image = cv2.imread(str(path), how).astype(np.float32) / 255
    return np.ascontiguousarray(image[..., [2, 1, 0, 3][: image.shape[-1]]])


def _heat_of_place(photo: np.ndarray) -> np.ndarray:
    """Return temperatures (H, W): the sun warms asphalt most, leaves least."""
    light = photo.mean(-1)
    leaves = (2 * photo[..., 1] - photo[..., 0] - photo[..., 2]).clip(0, 0.5)
    return (0.22 + 0.26 * light - 0.35 * leaves).clip(0, 1)


def _heat_of_car(car: np.ndarray) -> np.ndarray:
    """Return temperatures (H, W) of a car that heads up: a hot engine, cold sky in its glass."""
    height, width = car.shape[:2]
    y, x = np.mgrid[:height, :width] / (height, width)[0]
    engine = np.exp(-(((x - 0.5) / 0.35) ** 2 + ((y - 0.12) / 0.16) ** 2))
    glass = (car.max(-1) < 0.55) & (np.ptp(car, axis=-1) < 0.15)
    return (0.5 + 0.3 * engine - 0.2 * glass).astype(np.float32).clip(0, 1)
