"""What is minimised: boxes, features, images."""
