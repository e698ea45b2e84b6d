"""`python -m tpf_tracker_ros.cli`."""

from tpf_tracker_ros.cli import main

main()
