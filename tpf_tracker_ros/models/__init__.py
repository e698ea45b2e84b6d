"""Networks in torch: the contract, the registry, one file a network, layers, checkpoints."""

# One name for each file that registers models.
from tpf_tracker_ros.models import ckd, cmd, nano, sdstrack, tpf  # noqa: F401
from tpf_tracker_ros.models.registry import (  # noqa: F401
    create_model,
    find_model,
    list_models,
    packaged_weights,
    register_model,
)
