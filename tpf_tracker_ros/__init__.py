"""RGB-thermal single-object tracking for ROS 2: pixel-level fusion in front of one ViT stream."""

__version__ = '0.1.0'
