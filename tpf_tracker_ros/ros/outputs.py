"""The topics on which the node says what it has found; images and marks only for who looks."""

from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import (
    DurabilityPolicy,
    qos_policy_name_from_kind,
    QoSProfile,
    ReliabilityPolicy,
)
from sensor_msgs.msg import CameraInfo, Image
from tpf_tracker_ros.core.drawing import draw_result
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.ros.conversion import PairConverter, to_image_message
from tpf_tracker_ros.ros.messages import (
    Detection2D,
    Detection2DArray,
    to_annotation,
    to_detection,
    to_detections,
)
from tpf_tracker_ros.ros.worker import header_of, Step
from tpf_tracker_ros.tracking.tracker import Tracker, TrackState
from visualization_msgs.msg import ImageMarker

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# Reliable reaches every subscriber, RViz's too; two images are all that is worth sending again.
IMAGES = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
# Who joins late learns at once how things are.
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


class Outputs:
    """
    The lifecycle publishers of a node with this tracker.

    values: the node's parameters. report: called with one line when a subscriber asks for more
    than is offered. tracks may be called from one thread and images from another.
    """

    def __init__(
        self,
        node: LifecycleNode,
        tracker: Tracker,
        converter: PairConverter,
        values: dict[str, Any],
        report: Callable[[str], None],
    ) -> None:
        self._node, self._tracker, self._converter = node, tracker, converter
        self._values, self._report = values, report
        self._range = ThermalRange()  # of thermal images in the overlay
        self._publishers: list[Any] = []
        self._tracks = self._create(Detection2DArray, '~/tracks', RELIABLE)
        self._state = self._create(Detection2D, '~/state', LATCHED)
        self._status = self._create(DiagnosticArray, '~/status', RELIABLE)
        self._annotations = self._create(ImageMarker, '~/annotations', RELIABLE)
        self._overlay = self._create(Image, '~/overlay', IMAGES)
        self._fused = self._info = None
        if tracker.fuses:
            self._fused = self._create(Image, '~/fused_image', IMAGES)
            self._info = self._create(CameraInfo, '~/camera_info', IMAGES)

    def destroy(self) -> None:
        """Take the topics away."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def state(self, state: Detection2D) -> None:
        """Latch the state, where the node is active."""
        if self._state.is_activated and self._node.context.ok():
            self._state.publish(state)

    def status(self, status: DiagnosticArray) -> None:
        """Publish the content of ~/status."""
        self._status.publish(status)

    def tracks(self, step: Step) -> None:
        """Publish the box of a finished pair, or that there is none."""
        header, result = header_of(step.paired), step.result
        found = result is not None and result.state is not TrackState.LOST
        if self._annotations.get_subscription_count():
            box, state = (result.box, result.state.value) if found else (None, '')
            self._annotations.publish(to_annotation(box, state, header))
        if not found:
            self._tracks.publish(to_detections(header))
            return
        detection = to_detection(
            result.box,
            result.score,
            header,
            identity=step.identity,
            class_id=self._values['class_id'],
            bearing=self._converter.bearing(result.box, step.pair.size),
        )
        self._tracks.publish(to_detections(header, detection))

    def images(self, step: Step) -> None:
        """Render and publish what somebody looks at."""
        wants_fused, wants_info, wants_overlay = (
            publisher is not None and publisher.get_subscription_count() > 0
            for publisher in (self._fused, self._info, self._overlay)
        )
        header = header_of(step.paired)
        if wants_info and (info := self._converter.info(header)):
            self._info.publish(info)
        if not (wants_fused or wants_overlay):
            return
        fused = None
        if wants_fused or step.pair.rgb is None:
            fused = self._tracker.fuse(step.pair)
        if wants_fused:
            self._fused.publish(to_image_message(fused, header))
        if wants_overlay:
            self._overlay.publish(to_image_message(self._drawn(step, fused), header))

    def _drawn(self, step: Step, fused: np.ndarray | None) -> np.ndarray:
        """Return the RGB image, the fused one, or the thermal one, with what was found."""
        pair, result = step.pair, step.result
        shown = fused if pair.rgb is None else pair.rgb
        if shown is None:
            shown = self._range.to_rgb(pair.thermal)
        return draw_result(
            shown,
            result.box if result else None,
            state=result.state if result else TrackState.IDLE,
            score=result.score if result else 0.0,
        )

    def _create(self, kind: type, name: str, qos: QoSProfile) -> Any:
        def incompatible(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            self._report(
                f'a subscriber of {publisher.topic_name} asks for more {policy} than is '
                'offered and gets nothing; let it ask for volatile durability'
            )

        events = PublisherEventCallbacks(incompatible_qos=incompatible)
        publisher = self._node.create_lifecycle_publisher(kind, name, qos, event_callbacks=events)
        self._publishers.append(publisher)
        return publisher
