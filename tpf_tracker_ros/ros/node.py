"""
The lifecycle node `tpf_tracker`: images in, boxes and fused images out.

Callbacks only store and pair; the worker's threads track and render, and publish. run.py makes a
process of it.
"""

from collections.abc import Callable
import functools
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import qos_policy_name_from_kind, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger
from tpf_tracker_ros.core.boxes import check_box, parse_target
from tpf_tracker_ros.core.errors import import_fault, TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.frozen import FrozenWatch
from tpf_tracker_ros.core.pairing import FramePairer, pairing_settings
from tpf_tracker_ros.ros import parameters
from tpf_tracker_ros.ros.conversion import Frame, nanoseconds, PairConverter
from tpf_tracker_ros.ros.diagnostics import Health
from tpf_tracker_ros.ros.events import Events
from tpf_tracker_ros.ros.graph import what_confuses, why_silent
from tpf_tracker_ros.ros.journal import Journal, kind_of
from tpf_tracker_ros.ros.messages import (
    best,
    Detection2D,
    Detection2DArray,
    to_box,
)
from tpf_tracker_ros.ros.outputs import Outputs, RELIABLE
from tpf_tracker_ros.ros.sync import UpstreamPairer
from tpf_tracker_ros.ros.watchdog import Watchdog
from tpf_tracker_ros.ros.worker import Step, Target, Worker
from tpf_tracker_ros.tracking.tracker import Tracker, TrackState

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR
PAIRING = 'slop_ms', 'rgb_offset_ms', 'thermal_offset_ms', 'camera_timeout_ms', 'hold_ms'
BLANK = 'are blank, without contrast'
FROZEN = 'stay the same (a shutter, or a camera that hangs)'
WATCH_PERIOD = 0.25  # s
WARM_UP_SIZE = (640, 512)  # width, height px


class HangingStep(TpfError):
    """A step of the tracker does not end; its thread has been given up."""


def _words(error: Exception) -> str:
    if isinstance(error, ImportError):
        return import_fault(error)
    return str(error) if isinstance(error, TpfError) else repr(error)


def _never_raise(callback: Callable) -> Callable:
    """Return a graph callback that reports what goes wrong and lets the node live."""

    @functools.wraps(callback)
    def guarded(self: 'TrackerNode', *args: Any) -> Any:
        try:
            return callback(self, *args)
        except Exception as error:
            self._report(_words(error))

    return guarded


def _transition(callback: Callable) -> Callable:
    """Return a lifecycle callback that says why it fails: rclpy would swallow the exception."""

    @functools.wraps(callback)
    def guarded(self: 'TrackerNode', state: LifecycleState) -> TransitionCallbackReturn:
        try:
            callback(self)
        except Exception as error:
            if self.context.ok():  # else it is told to stop while it starts
                self.get_logger().fatal(_words(error))
            if isinstance(error, HangingStep):
                self._tracker = None  # its thread still has it
                return ERROR
            self._stop()
            if callback.__name__ == 'on_configure':
                self._free()
            return FAILURE
        outcome = getattr(super(TrackerNode, self), callback.__name__)(state)
        self._events.announce()
        return outcome

    return guarded


class TrackerNode(LifecycleNode):
    """See the module. Raises TpfError on parameters that are unknown or out of range."""

    def __init__(self, **options: Any) -> None:
        self._tracker: Tracker | None = None
        self._worker: Worker | None = None
        self._watchdog: Watchdog | None = None
        self._step = 0.0  # s, of the tracker
        self._stalled: str | None = None  # what the watchdog says
        self._hangs = False
        self._pairer: FramePairer | None = None
        self._converter: PairConverter | None = None
        self._inputs: list[Callable[[], object]] = []  # each destroys one
        self._outputs: Outputs | None = None
        self._frozen = FrozenWatch()  # while there is no target; then the tracker has its own
        super().__init__(
            'tpf_tracker', automatically_declare_parameters_from_overrides=True, **options
        )
        self._values = parameters.declare(self, self._parameters_changed, self._check_target)
        self._journal = Journal(self.get_logger())
        self._health = Health(self.get_fully_qualified_name(), self._values, self._journal)
        self._events = Events(self._journal.say, self._publish_state)
        # Not of this node's clock: a paused simulation has a health, too.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._status_timer = self.create_timer(
            1 / self._values['status_rate'], self._publish_status, clock=steady
        )
        self._diagnostics_timer = self.create_timer(1.0, self._publish_health, clock=steady)
        self._watch_timer = self.create_timer(WATCH_PERIOD, self._watch, clock=steady)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', RELIABLE)
        # They exist, and answer, while the node is not active, too.
        self._commands = [
            self.create_service(Trigger, f'~/{name}', command)
            for name, command in (('reset', self._reset), ('stop', self._stop_target))
        ]

    # ---- lifecycle ----

    @_transition
    def on_configure(self) -> None:
        """Load the tracker and run it once, so that the first pair does not wait."""
        from tpf_tracker_ros.tracking.load import load_tracker

        values, start = self._values, time.perf_counter()
        self._pairer = self._make_pairer()
        self._tracker = load_tracker(
            values['model'],
            device=values['device'],
            checkpoint=values['checkpoint'] or None,
            **parameters.tracker_settings(values),
        )
        loaded = time.perf_counter()
        self._converter = PairConverter(values, self._unusable, second=self._tracker.second)
        self._step = self._warm_up(self._tracker)
        self._outputs = Outputs(self, self._tracker, self._converter, self._values, self._report)
        self.get_logger().info(
            f'{self._tracker.name} on {self._tracker.device}: loaded in {loaded - start:.1f} s, '
            f'warmed up in {time.perf_counter() - loaded:.1f} s'
        )

    @_transition
    def on_activate(self) -> None:
        """Listen to the cameras; from here on pairs become boxes."""
        self._pairer = self._make_pairer()
        self._worker = Worker(
            self._tracker,
            convert=self._converter.convert,
            publish=self._outputs.tracks,
            render=self._outputs.images,
            report=self._report,
            follow=self._follow,
            inspect=self._inspect,
            initial=self._initial_target(),
            history_mb=self._values['target_history_mb'],
        )
        self._watchdog = Watchdog(self._worker, self._step)
        self._subscribe()
        self.get_logger().info('ready')

    @_transition
    def on_deactivate(self) -> None:
        """Stop listening; the model stays."""
        self._stop()

    @_transition
    def on_cleanup(self) -> None:
        """Free the model."""
        self._free()

    @_transition
    def on_shutdown(self) -> None:
        """Stop from any state."""
        self._free()

    @_transition
    def on_error(self) -> None:
        """Begin again from unconfigured."""
        self._free()

    def destroy_node(self) -> None:
        """End the worker's threads first: they publish."""
        try:
            self._stop()
        except HangingStep as error:
            rclpy.logging.get_logger(self.get_name()).fatal(str(error))
        super().destroy_node()

    @property
    def hangs(self) -> bool:
        """Whether a thread of this process has been given up: it ends only with the process."""
        return self._hangs

    def _stop(self) -> None:
        for destroy in self._inputs:
            destroy()
        self._inputs = []
        worker, self._worker, self._watchdog, self._stalled = self._worker, None, None, None
        if worker:
            ended = worker.close()
            if self.context.ok():
                self._events.rest()
            if not ended:
                self._hangs = True
                raise HangingStep('a step of the tracker does not end; its thread is given up')

    def _free(self) -> None:
        self._stop()
        if self._outputs:
            self._outputs.destroy()
        self._outputs = self._tracker = None

    def _make_pairer(self) -> FramePairer:
        values = self._values
        kind = UpstreamPairer if values['sync'] == 'message_filters' else FramePairer
        return kind(
            mode=values['mode'],
            policy=values['pairing'],
            depth=values['queue_depth'],
            **pairing_settings({name: values[name] for name in PAIRING}),
        )

    def _initial_target(self) -> Target | None:
        text = self._values['init_box']
        return Target(*parse_target(text)) if text else None

    def _warm_up(self, tracker: Tracker) -> float:
        """Return how many seconds a step takes once it is warm."""
        width, height = WARM_UP_SIZE
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        mode = self._values['mode']
        pair = FramePair(
            None if mode == 'thermal' else noise, None if mode == 'rgb' else noise[..., 0]
        )
        tracker.initialize(pair, np.array([width / 2, height / 2, 48.0, 48.0]))
        for _ in range(3):
            start = time.perf_counter()
            tracker.track(pair)
        tracker.stop()
        return time.perf_counter() - start

    # ---- entities of the graph ----

    def _subscribe(self) -> None:
        values = self._values
        images = QoSProfile(
            depth=values['subscription_depth'], reliability=ReliabilityPolicy.BEST_EFFORT
        )
        cameras = values['mode'].split('+')
        for camera in cameras:
            topic = self.resolve_topic_name(f'{camera}/image_raw')
            transport = values[f'{camera}_transport']
            # The suffix comes after remapping, as image_transport does it.
            topic += '' if transport == 'raw' else f'/{transport}'
            kind = Image if transport == 'raw' else CompressedImage
            image = functools.partial(self._take_image, camera)
            gives = self._tracker.second if camera == 'thermal' else 'rgb'
            self._health.expect(camera, self._listen(kind, topic, image, images), gives)
            info = functools.partial(self._take_info, camera)
            self._listen(CameraInfo, f'{camera}/camera_info', info, images)
        # A command must not be lost, so its publisher has to be reliable.
        self._listen(Detection2D, '~/target', self._take_target, RELIABLE)
        self._listen(Detection2DArray, '~/detections', self._take_detections, images)

    def _listen(self, kind: type, topic: str, callback: Callable, qos: QoSProfile) -> str:
        """Subscribe; returns the topic's name after remapping."""

        def incompatible(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            self._report(
                f'a publisher of {subscription.topic_name} offers less {policy} than is needed, '
                f'nothing comes from it; publish with reliability {qos.reliability.name}'
            )

        events = SubscriptionEventCallbacks(incompatible_qos=incompatible)
        subscription = self.create_subscription(kind, topic, callback, qos, event_callbacks=events)
        self._inputs.append(functools.partial(self.destroy_subscription, subscription))
        return subscription.topic_name

    # ---- what comes in ----

    @_never_raise
    def _take_image(self, camera: str, message: Image | CompressedImage) -> None:
        arrival, now = time.perf_counter(), self.get_clock().now().nanoseconds
        stamp = nanoseconds(message.header.stamp)
        self._health.cameras[camera].take(message, stamp, arrival, now)
        frame = Frame(message, arrival)
        for paired in self._pairer.add(camera, stamp, frame, arrival_ns=now):
            self._worker.submit(paired)

    @_never_raise
    def _take_info(self, camera: str, message: CameraInfo) -> None:
        self._converter.take_info(camera, message)

    @_never_raise
    def _take_target(self, message: Detection2D) -> None:
        self._worker.start_target(_to_target(message, message))

    @_never_raise
    def _take_detections(self, message: Detection2DArray) -> None:
        if detection := best(message):
            self._worker.detect(_to_target(detection, message))

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, Worker.reset, 'target dropped, starting over')

    def _stop_target(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, Worker.stop_target, 'stopped; give a target to go on')

    def _answer(
        self, response: Trigger.Response, order: Callable[[Worker], None], done: str
    ) -> Trigger.Response:
        response.success = self._worker is not None
        response.message = done
        if self._worker:
            order(self._worker)
        else:
            name = self.get_fully_qualified_name()
            response.message = f'not active; first: ros2 lifecycle set {name} activate'
        return response

    def _check_target(self, given: dict[str, Any]) -> None:
        """Refuse an init_box that does not lie in the newest images. Raises TpfError."""
        newest = self._worker and self._worker.history.newest
        if newest and given.get('init_box'):
            message = (newest.rgb or newest.thermal).message
            box, _ = parse_target(given['init_box'])
            if hasattr(message, 'width'):  # of a compressed one only decoding tells
                check_box(box, (message.width, message.height))

    @_never_raise
    def _parameters_changed(self, values: dict[str, Any], given: set[str]) -> None:
        self._status_timer.timer_period_ns = int(1e9 / values['status_rate'])
        if self._converter:
            self._converter.configure(values)
            self._pairer.configure(**pairing_settings({name: values[name] for name in PAIRING}))
        if self._worker:
            self._worker.configure(**parameters.tracker_settings(values))
            if 'init_box' in given:
                target = self._initial_target()
                self._worker.set_initial(target)
                if target:
                    self._worker.start_target(target)
        elif self._tracker:
            self._tracker.configure(**parameters.tracker_settings(values))

    # ---- what goes out, from the worker's threads ----

    def _follow(self, step: Step | None) -> None:
        """Tell what has changed with this pair; None: a command has dropped the target."""
        if step is None:
            self._events.rest()
            return
        self._events.follow(step)
        if step.result and step.result.state is not TrackState.LOST:
            used, frozen = step.result.modality, step.result.frozen
            for camera in step.pair.modality.split('+'):
                if camera == frozen:
                    self._health.trouble(camera, 'left out', f'{FROZEN}; tracking by {used} alone')
                elif camera not in used:
                    self._health.trouble(camera, 'left out', f'{BLANK}; tracking by {used} alone')

    def _inspect(self, pair: FramePair) -> None:
        """Tell of a frozen camera before there is a target."""
        if frozen := self._frozen.judge(pair, self._values['tracker.frozen_ms']):
            self._health.trouble(frozen, 'left out', FROZEN)

    def _publish_state(self, state: Detection2D) -> None:
        if self._outputs:
            self._outputs.state(state)

    # ---- what it says about itself ----

    def _report(self, problem: str) -> None:
        """One line a while for what is wrong now, and into the diagnostics."""
        if not self.context.ok():
            return  # shutting down
        self._health.note(problem)
        self._journal.say('warning', problem)

    def _unusable(self, camera: str, problem: str) -> None:
        self._health.trouble(camera, 'unusable', problem)

    @_never_raise
    def _watch(self) -> None:
        """Say that no pair gets finished, and why; and that it goes on."""
        if not self._worker:
            return
        timeout = self._health.patience(self._values['stall_timeout_ms'] / 1e3)
        silent = self._health.silent(timeout)
        before, self._stalled = self._stalled, self._watchdog.complaint(silent, timeout)
        if self._stalled:
            self._events.stall()
            if kind_of(self._stalled) != kind_of(before or ''):
                self._journal.say('error', self._stalled)
        elif before:
            self._journal.say('info', 'pairs are finished again')

    @_never_raise
    def _publish_status(self) -> None:
        if self._worker:
            status = self._health.tracking(self._worker, self._pairer, self._events.state)
            self._outputs.status(self._array(status))

    @_never_raise
    def _publish_health(self) -> None:
        if self._worker:
            statuses = self._health.overall(
                self._worker,
                self._pairer,
                state=self._events.state,
                stalled=self._stalled,
                warning=self._converter.warning,
                confusion=what_confuses(self),
                reason=functools.partial(why_silent, self),
            )
        else:
            statuses = [self._health.inactive('inactive' if self._tracker else 'unconfigured')]
        self._diagnostics.publish(self._array(*statuses))

    def _array(self, *statuses: DiagnosticStatus) -> DiagnosticArray:
        array = DiagnosticArray(status=list(statuses))
        array.header.stamp = self.get_clock().now().to_msg()
        return array


def _to_target(detection: Detection2D, stamped: Any) -> Target:
    """Return a box in the pair of the stamp in the header of `stamped`; zero: the next pair."""
    return Target(to_box(detection), nanoseconds(stamped.header.stamp) or None)
