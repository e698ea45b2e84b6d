"""The stages: what a run can train, and on which losses."""

from tpf_tracker_ros.training.stage import list_stages  # noqa: F401
from tpf_tracker_ros.training.stages import (  # noqa: F401  registers them
    ckd,
    cmd,
    distil,
    drf,
    mad,
    response,
    sdstrack,
    supervised,
)
