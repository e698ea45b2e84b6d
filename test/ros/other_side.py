"""The other side of a graph with the node: cameras, a user, and all that the node publishes."""

from contextlib import contextmanager
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tpf_tracker_ros.ros.conversion import nanoseconds, to_image_message
from tpf_tracker_ros.ros.graph import spinning_node, wait_until
from tpf_tracker_ros.ros.messages import Detection2D, Detection2DArray, to_box, to_detection
from tpf_tracker_ros.ros.node import SUCCESS, TrackerNode
from tpf_tracker_ros.ros.outputs import LATCHED

PERIOD = 33_333_333
START = 1_700_000_000_000_000_000
SIZE = (160, 128)
BOX = np.array([60.0, 50, 24, 20])
BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


def header(index, frame='camera'):
    return Header(stamp=Time(nanoseconds=START + round(index * PERIOD)).to_msg(), frame_id=frame)


def scene(index):
    """Return a textured pair (rgb, thermal) in which a bright square moves by 2 px a frame."""
    rng = np.random.default_rng(3)
    rgb = rng.integers(60, 120, (SIZE[1], SIZE[0], 3), np.uint8)
    thermal = rng.integers(7200, 7400, (SIZE[1], SIZE[0])).astype(np.uint16)
    x = int(BOX[0]) + 2 * index % 60
    right = x + 24
    rgb[50:70, x:right] = (220, 180, 40)
    thermal[50:70, x:right] = 7700
    return rgb, thermal


def boxes(tracks):
    return [[to_box(d).tolist() for d in message.detections] for message in tracks]


def stamps(tracks):
    return [round((nanoseconds(m.header.stamp) - START) / PERIOD) for m in tracks]


class Graph:
    """The other side: cameras, a user who sends targets, and everything that is published."""

    def __init__(self, node, tracker, capfd):
        self.node, self.tracker, self.capfd = node, tracker, capfd
        self.cameras = {
            'rgb': node.create_publisher(Image, 'rgb/image_raw', BEST_EFFORT),
            'thermal': node.create_publisher(Image, 'thermal/image_raw', BEST_EFFORT),
        }
        self.target = node.create_publisher(Detection2D, '/tpf_tracker/target', 10)
        self.detections = node.create_publisher(Detection2DArray, '/tpf_tracker/detections', 10)
        self.tracks, self.statuses, self.health, self.written = [], [], {}, ''
        self.states = []
        self.outputs = [
            node.create_subscription(kind, topic, callback, qos)
            for kind, topic, callback, qos in (
                (Detection2DArray, '/tpf_tracker/tracks', self.tracks.append, 50),
                (Detection2D, '/tpf_tracker/state', self.states.append, LATCHED),
                (DiagnosticArray, '/tpf_tracker/status', self.statuses.append, 50),
                (DiagnosticArray, '/diagnostics', self._diagnosed, 50),
            )
        ]

    def _diagnosed(self, message):
        self.health.update({s.name.removeprefix('tpf_tracker: '): s for s in message.status})

    def connected(self):
        """Both sides know each other: until then what is published is lost."""

        def matched():
            heard = {s.topic_name for s in self.tracker.subscriptions if s.get_publisher_count()}
            fed = {p.topic_name for p in self.tracker.publishers if p.get_subscription_count()}
            return all(
                p.get_subscription_count() and p.topic_name in heard
                for p in (*self.cameras.values(), self.target, self.detections)
            ) and all(s.get_publisher_count() and s.topic_name in fed for s in self.outputs)

        wait_until(matched, 20, 'the node does not subscribe')
        return self

    def send(self, index, *, cameras=('rgb', 'thermal'), wait=True, **images):
        """One frame of these cameras; waits for its tracks."""
        for camera, image in zip(('rgb', 'thermal'), scene(index)):
            if camera in cameras:
                message = images.get(camera)
                if message is None:
                    message = to_image_message(image, header(index, camera))
                self.cameras[camera].publish(message)
        if wait:
            wait_until(
                lambda: self.tracks and stamps(self.tracks)[-1] == index,
                10,
                f'no tracks for frame {index}',
            )
            return self.tracks[-1]
        time.sleep(0.02)
        return None

    def start_now(self, stamp, box=BOX):
        self.target.publish(to_detection(box, 1.0, stamp, identity='', class_id=''))

    def start(self, stamp, box=BOX):
        self.start_now(stamp, box)
        time.sleep(0.1)

    def call(self, kind, name, request, timeout=10):
        client = self.node.create_client(kind, f'/tpf_tracker/{name}')
        assert client.wait_for_service(10)
        future = client.call_async(request)
        wait_until(future.done, timeout, f'{name} does not answer')
        return future.result()

    def set(self, **values):  # noqa: A003
        parameters = [
            Parameter(name.replace('__', '.'), value=v).to_parameter_msg()
            for name, v in values.items()
        ]
        answer = self.call(SetParameters, 'set_parameters', SetParameters.Request(
            parameters=parameters))  # fmt: skip
        return [result.reason for result in answer.results]

    def state(self):
        """Return the latest latched state and its target's id."""
        state = self.states[-1]
        return state.results[0].hypothesis.class_id, state.id

    def first_state(self, identity):
        """Wait for the first latched state of a target, that of its start."""
        found = []
        self.until(
            lambda: found.extend(s for s in self.states if s.id == identity) or found, 'state'
        )
        return found[0]

    def says(self, part):
        """Return the message on /diagnostics about 'tracker', 'pairing', 'rgb' or 'thermal'."""
        return self.health[part].message if part in self.health else ''

    def status(self, key):
        return {v.key: v.value for v in self.statuses[-1].status[0].values}[key]

    def logged(self, words):
        self.written += self.capfd.readouterr().err
        return words in self.written

    def until(self, condition, what, timeout=10):
        wait_until(condition, timeout, f'{what} did not come')


@contextmanager
def running_node(capfd, **values):
    """Run the node with these parameters in this process, spinning in a thread; gives a Graph."""
    overrides = [Parameter(name.replace('__', '.'), value=v) for name, v in values.items()]
    context = rclpy.Context()
    rclpy.init(context=context)
    node = TrackerNode(context=context, parameter_overrides=overrides)
    if values.get('autostart', True):
        assert node.trigger_configure() == SUCCESS == node.trigger_activate()
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    with spinning_node('other_side') as (other, _):
        thread.start()
        try:
            yield Graph(other, node, capfd)
        finally:
            executor.shutdown()
            thread.join()
            node.destroy_node()
            context.try_shutdown()
