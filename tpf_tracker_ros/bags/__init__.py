"""rosbag2 files through the rosbags library; no ROS graph."""
