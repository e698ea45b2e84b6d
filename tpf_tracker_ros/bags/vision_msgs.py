"""
The 2-D part of vision_msgs 4.x as message definitions: the one copy in this package.

vision_msgs is in no Python registry. `rosbags` registers these texts to read and write bags, and
`tpf_tracker_ros.ros.interfaces` compiles them where no ROS 2 brings the real package. Field names,
types and order are the wire contract: the type hash depends on nothing else.
"""

# Each text uses only the ones above it and std_msgs, geometry_msgs.
DEFINITIONS = {
    'vision_msgs/msg/Point2D': """\
float64 x
float64 y
""",
    'vision_msgs/msg/Pose2D': """\
vision_msgs/Point2D position
float64 theta
""",
    'vision_msgs/msg/BoundingBox2D': """\
vision_msgs/Pose2D center
float64 size_x
float64 size_y
""",
    'vision_msgs/msg/ObjectHypothesis': """\
string class_id
float64 score
""",
    'vision_msgs/msg/ObjectHypothesisWithPose': """\
vision_msgs/ObjectHypothesis hypothesis
geometry_msgs/PoseWithCovariance pose
""",
    'vision_msgs/msg/Detection2D': """\
std_msgs/Header header
vision_msgs/ObjectHypothesisWithPose[] results
vision_msgs/BoundingBox2D bbox
string id
""",
    'vision_msgs/msg/Detection2DArray': """\
std_msgs/Header header
vision_msgs/Detection2D[] detections
""",
}
