"""Boxes as vision_msgs and back, and as marks over an image."""

from geometry_msgs.msg import Point
import numpy as np
from std_msgs.msg import ColorRGBA, Header
from tpf_tracker_ros.core.boxes import centre, from_centre
from tpf_tracker_ros.core.drawing import COLOURS
from tpf_tracker_ros.ros.interfaces import ensure_vision_msgs

ensure_vision_msgs()

from vision_msgs.msg import (  # noqa: E402
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesisWithPose,
)
from visualization_msgs.msg import ImageMarker  # noqa: E402


def to_detection(
    box: np.ndarray,
    score: float,
    header: Header,
    *,
    identity: str,
    class_id: str,
    bearing: np.ndarray | None = None,
) -> Detection2D:
    """
    Box (4,) x, y, w, h px as a Detection2D.

    bearing: unit vector (3,) from the camera to the target, put into the hypothesis' pose; where
    it is unknown the pose's covariance begins with -1, as in sensor_msgs/Imu.
    """
    bounds = BoundingBox2D(size_x=float(box[2]), size_y=float(box[3]))
    bounds.center.position.x, bounds.center.position.y = map(float, centre(box))
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = class_id, float(score)
    if bearing is None:
        result.pose.covariance[0] = -1.0
    else:
        position = result.pose.pose.position
        position.x, position.y, position.z = map(float, bearing)
    return Detection2D(header=header, results=[result], bbox=bounds, id=identity)


def to_detections(header: Header, *detections: Detection2D) -> Detection2DArray:
    """None or one detection under the header of its image."""
    return Detection2DArray(header=header, detections=list(detections))


def to_box(detection: Detection2D) -> np.ndarray:
    """Box float64 (4,) x, y, w, h px of a Detection2D."""
    bounds = detection.bbox
    middle = bounds.center.position
    return from_centre(middle.x, middle.y, bounds.size_x, bounds.size_y)


def to_score(detection: Detection2D) -> float:
    """Return the best score of a Detection2D; 0 without a hypothesis."""
    return max((result.hypothesis.score for result in detection.results), default=0.0)


def best(detections: Detection2DArray) -> Detection2D | None:
    """Return the detection with the highest score."""
    return max(detections.detections, key=to_score, default=None)


def to_annotation(box: np.ndarray | None, state: str, header: Header) -> ImageMarker:
    """Mark a box (4,) x, y, w, h px over the image of this header, or take the mark away."""
    marker = ImageMarker(header=header, ns='tpf_tracker', type=ImageMarker.POLYGON, scale=2.0)
    if box is None:
        marker.action = ImageMarker.REMOVE
        return marker
    red, green, blue = (value / 255 for value in COLOURS[state])
    marker.outline_color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    x, y, w, h = map(float, box)
    corners = (x, y), (x + w, y), (x + w, y + h), (x, y + h)
    marker.points = [Point(x=right, y=down) for right, down in corners]
    return marker
