"""The ROS 2 side: node, parameters, messages, image conversion, diagnostics, player."""
