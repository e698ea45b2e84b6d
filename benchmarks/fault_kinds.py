"""
The kinds of faults of benchmarks/faults.py, and the film they are done to.

A kind is a function that gets the campaign, does something to it once, and may return what becomes
of the messages of each tick while it lasts: a function (rgb, thermal) -> [(camera, message), ...].
"""

from collections.abc import Callable
import time
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tpf_tracker_ros.ros.conversion import nanoseconds, to_image_message
from tpf_tracker_ros.ros.messages import Detection2DArray, to_detection

SIZE = (160, 128)
BOX = (60.0, 50.0, 24.0, 20.0)
NODE = '/tpf_tracker'
SLOP_MS = 15.0
SECOND = 10**9

Fault = Callable[[Image, Image], list[tuple[str, Image]]]
# Name: seconds that it lasts, how often it is drawn beside the others, and what it does.
KINDS: dict[str, tuple[float, float, Callable[[Any], Fault | None]]] = {}


class Film:
    """Both cameras: a bright square moves over a texture. offset: ns of each camera's clock."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        width, height = SIZE
        self.rgb = np.kron(
            rng.integers(60, 120, (height // 8, width // 8, 3), np.uint8), np.ones((8, 8, 1))
        ).astype(np.uint8)
        self.thermal = (7200 + 2 * self.rgb.mean(-1)).astype(np.uint16)
        self.index = 0
        self.offset = {'rgb': 0, 'thermal': 0}
        self.taken: dict[int, int] = {}  # number of a pair: when, ns

    def frames(self) -> tuple[Image, Image]:
        """Return the next pair of messages; frame_id: camera/number/offset of its clock."""
        self.index += 1
        self.taken[self.index] = now = time.time_ns()
        x = 60 + round(12 * np.sin(self.index / 20))
        messages = []
        for camera, image, value in (('rgb', self.rgb, (230, 180, 40)),
                                     ('thermal', self.thermal, 7900)):  # fmt: skip
            image = image.copy()
            right = x + 24
            image[50:70, x:right] = value
            image[0, 0] = self.index % 256
            stamp = Time(nanoseconds=now + self.offset[camera]).to_msg()
            name = f'{camera}/{self.index}/{self.offset[camera]}'
            messages.append(to_image_message(image, Header(stamp=stamp, frame_id=name)))
        return tuple(messages)


def both(rgb: Image, thermal: Image) -> list:
    """Send both as they are."""
    return [('rgb', rgb), ('thermal', thermal)]


def kind(seconds: float, weight: float = 1.0) -> Callable:
    """Enter a kind under the function's name."""

    def enter(function: Callable) -> Callable:
        KINDS[function.__name__.replace('_', ' ')] = seconds, weight, function
        return function

    return enter


# ---- images that do not come, come late, twice or out of order ----


def only(*cameras: str) -> Callable:
    return lambda rgb, thermal: [each for each in both(rgb, thermal) if each[0] in cameras]


@kind(0.1)
def rgb_frames_dropped(campaign):
    return only('thermal')


@kind(0.1)
def thermal_frames_dropped(campaign):
    return only('rgb')


@kind(0.2)
def pairs_dropped(campaign):
    return only()


@kind(0.4)
def half_of_all_lost(campaign):
    return lambda *pair: [each for each in both(*pair) if campaign.random.random() < 0.5]


@kind(0.2)
def burst(campaign):
    def flood(rgb, thermal):
        more = [both(*campaign.film.frames()) for _ in range(8)]
        return both(rgb, thermal) + [each for pair in more for each in pair]

    return flood


@kind(0.4)
def thermal_late(campaign):
    waiting = []

    def late(rgb, thermal):
        waiting.append(('thermal', thermal))
        return [('rgb', rgb)] + ([waiting.pop(0)] if len(waiting) > 2 else [])

    return late


@kind(0.3)
def out_of_order(campaign):
    waiting = []

    def swapped(rgb, thermal):
        waiting.extend(both(rgb, thermal))
        if len(waiting) < 6:  # 67 ms: a step back of more than 100 ms is a new start of time
            return []
        campaign.random.shuffle(waiting)
        out, waiting[:] = list(waiting), []
        return out

    return swapped


@kind(0.3)
def doubled(campaign):
    return lambda *pair: both(*pair) * 2


@kind(0.3)
def jitter(campaign):
    def moved(rgb, thermal):
        for message in (rgb, thermal):
            move = campaign.random.randint(-6_000_000, 6_000_000)
            message.header.stamp = Time(
                nanoseconds=nanoseconds(message.header.stamp) + move
            ).to_msg()
        return both(rgb, thermal)

    return moved


@kind(0.8)
def rgb_dead(campaign):
    return only('thermal')


@kind(0.8)
def thermal_dead(campaign):
    return only('rgb')


@kind(0.7)
def both_dead(campaign):
    return only()


@kind(3.5, 0.1)
def both_dead_for_long(campaign):
    return only()


@kind(0.3, 0.3)
def drivers_restarted(campaign):
    campaign.reconnect_cameras()


# ---- clocks ----


def step(*cameras: str, seconds: float) -> Callable:
    def function(campaign):
        for camera in cameras:
            campaign.film.offset[camera] += round(seconds * SECOND)

    return function


KINDS['clocks step forward'] = 0.2, 1.0, step('rgb', 'thermal', seconds=5)
KINDS['clocks step back'] = 0.2, 1.0, step('rgb', 'thermal', seconds=-5)
KINDS['bag loops'] = 0.3, 1.0, step('rgb', 'thermal', seconds=-1)


@kind(0.5)
def thermal_clock_an_hour_off(campaign):
    before = dict(campaign.film.offset)
    campaign.film.offset['thermal'] += 3600 * SECOND
    campaign.afterwards(lambda: campaign.film.offset.update(before))


def restamped(campaign, stamp: int, *cameras: str) -> Callable:
    def function(rgb, thermal):
        for camera, message in both(rgb, thermal):
            if camera in cameras:
                message.header.stamp = Time(nanoseconds=stamp).to_msg()
        campaign.pairs_by_arrival()
        return both(rgb, thermal)

    return function


@kind(0.5)
def zero_stamps(campaign):
    return restamped(campaign, 0, 'rgb', 'thermal')


@kind(0.5)
def frozen_thermal_stamps(campaign):
    return restamped(campaign, time.time_ns(), 'thermal')


# ---- what the images hold ----


def with_each(change: Callable, *cameras: str) -> Callable:
    def function(rgb, thermal):
        for camera, message in both(rgb, thermal):
            if camera in cameras:
                change(message)
        return both(rgb, thermal)

    return function


def replaced(camera: str, change: Callable[[np.ndarray], np.ndarray], encoding: str = ''):
    """Return a fault that puts another picture into this camera's message."""

    def function(rgb, thermal):
        message = rgb if camera == 'rgb' else thermal
        dtype, channels = (np.uint8, 3) if camera == 'rgb' else (np.uint16, 1)
        pixels = np.frombuffer(message.data, dtype).reshape(SIZE[1], SIZE[0], channels).squeeze()
        other = to_image_message(change(pixels), message.header)
        other.encoding = encoding or other.encoding
        return [('rgb', other), ('thermal', thermal)] if camera == 'rgb' else [
            ('rgb', rgb), ('thermal', other)
        ]  # fmt: skip

    return function


@kind(0.3)
def rgb_as_bgr8(campaign):
    return replaced('rgb', lambda image: image[..., ::-1], 'bgr8')


@kind(0.3)
def rgb_as_mono8(campaign):
    return replaced('rgb', lambda image: image[..., 0])


@kind(0.3)
def thermal_as_float_with_nan(campaign):
    def change(image):
        image = image.astype(np.float32) / 100 - 50
        image[:20, :30], image[30], image[31] = np.nan, np.inf, -np.inf
        return image

    return replaced('thermal', change)


@kind(0.4)
def thermal_all_nan(campaign):
    return replaced('thermal', lambda image: np.full(image.shape, np.nan, np.float32))


@kind(0.4)
def thermal_changes_its_scale(campaign):
    return replaced('thermal', lambda image: 3000 + (image - 7200) // 2)


@kind(0.4)
def thermal_blank(campaign):
    return replaced('thermal', lambda image: np.full_like(image, 7300))


@kind(0.9)
def thermal_frozen(campaign):
    held = []

    def frozen(rgb, thermal):
        held[:] = held or [thermal.data]
        thermal.data = held[0]
        return both(rgb, thermal)

    return frozen


def mutated(*cameras: str, **fields) -> Callable:
    def change(message):
        for name, value in fields.items():
            setattr(message, name, value)

    return lambda campaign: with_each(change, *cameras)


for name, (cameras, fields) in {
    'rgb encoding unknown': (('rgb',), {'encoding': 'yuv999'}),
    'thermal encoding unknown': (('thermal',), {'encoding': '7UC1'}),
    'both encodings unknown': (('rgb', 'thermal'), {'encoding': ''}),
    'rgb step too small': (('rgb',), {'step': 3 * SIZE[0] - 30}),
    'thermal step zero': (('thermal',), {'step': 0}),
    'height of four billion': (('rgb', 'thermal'), {'height': 4_000_000_000}),
    'rgb of no size': (('rgb',), {'width': 0, 'height': 0}),
}.items():
    KINDS[name] = 0.3, 1.0, mutated(*cameras, **fields)


@kind(0.3)
def rgb_truncated(campaign):
    def cut(message):
        message.data = message.data[: len(message.data) // 2]

    return with_each(cut, 'rgb')


@kind(0.3)
def thermal_empty(campaign):
    def cut(message):
        message.data = message.data[:0]

    return with_each(cut, 'thermal')


@kind(0.3)
def topics_swapped(campaign):
    return lambda rgb, thermal: [('rgb', thermal), ('thermal', rgb)]


@kind(0.4)
def thermal_of_another_size(campaign):
    return replaced('thermal', lambda image: image[::2, ::2])


@kind(0.5)
def both_of_another_size(campaign):
    rgb, thermal = (replaced(c, lambda image: image[:96, :128]) for c in ('rgb', 'thermal'))

    def function(*pair):
        return [rgb(*pair)[0], thermal(*pair)[1]]

    return function


@kind(0.2)
def camera_info_garbage(campaign):
    for publisher in campaign.infos:
        publisher.publish(CameraInfo(width=7, height=0, distortion_model='none', d=[np.nan]))


# ---- the user, a detector, operators ----


@kind(0.3)
def flood_of_targets(campaign):
    for index in range(30):
        stamp = time.time_ns() + campaign.film.offset['rgb'] - 300_000_000
        campaign.send_target(BOX, stamp + index)


@kind(0.2)
def bad_targets(campaign):
    bad = (np.nan, 0, 1, 1), (0, 0, 1e4, 1e4), (0, 0, 1e9, 1e9), (5, 5, 0, 0), (999, 9, 5, 5)
    for box in bad:
        campaign.send_target(box, 0)


@kind(0.2)
def target_in_the_future(campaign):
    stamp = time.time_ns() + campaign.film.offset['rgb'] + 100_000_000
    campaign.send_target(BOX, stamp)


@kind(0.2)
def target_in_another_age(campaign):
    campaign.send_target(BOX, 12 * SECOND)


@kind(0.3)
def flood_of_detections(campaign):
    found = [
        to_detection(np.array(BOX) * scale, scale, Header(), identity='', class_id='')
        for scale in (0.5, 1.0, 1e6, np.nan)
    ]
    for _ in range(30):
        campaign.detections.publish(Detection2DArray(detections=found))


@kind(0.2)
def parameters_changed(campaign):
    score = round(campaign.random.uniform(0.3, 0.6), 2)
    campaign.set_parameters({'tracker.uncertain_score': score, 'slop_ms': SLOP_MS})


@kind(0.2)
def parameters_refused(campaign):
    campaign.set_parameters({'slop_ms': -1.0, 'model': 'x', 'init_box': '0,0,9999,9999'})


@kind(0.2)
def reset(campaign):
    campaign.call(Trigger, 'reset', Trigger.Request())


@kind(0.3)
def stop_and_target(campaign):
    campaign.call(Trigger, 'stop', Trigger.Request())
    campaign.afterwards(lambda: campaign.send_target(BOX, 0))


@kind(0.4)
def watchers_come_and_go(campaign):
    topics = [f'{NODE}/{name}' for name in ('fused_image', 'overlay')]
    watching = [
        campaign.node.create_subscription(Image, topic, lambda message: None, 2)
        for topic in topics
    ]
    campaign.afterwards(lambda: [campaign.node.destroy_subscription(each) for each in watching])


@kind(0.6, 0.3)
def deactivated_and_activated(campaign):
    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        campaign.call(ChangeState, 'change_state', request)

    change(Transition.TRANSITION_DEACTIVATE)
    campaign.afterwards(lambda: change(Transition.TRANSITION_ACTIVATE))


@kind(0.0, 0.3)
def killed_and_started_again(campaign):
    campaign.start_node()
