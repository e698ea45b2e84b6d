"""Networks in torch: the contract, the registry, one file a network, layers, checkpoints."""

from tpf_tracker_ros.models import nano, tpf  # noqa: F401  all files that register models
from tpf_tracker_ros.models.registry import (  # noqa: F401
    create_model,
    find_model,
    list_models,
    packaged_weights,
    register_model,
)
