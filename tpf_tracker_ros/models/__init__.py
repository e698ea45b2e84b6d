"""Networks in torch: the contract, the registry, one file a network, layers, checkpoints."""

from tpf_tracker_ros.models import tpf  # noqa: F401  one line for each file that registers models
from tpf_tracker_ros.models.registry import (  # noqa: F401
    create_model,
    find_model,
    list_models,
    packaged_weights,
    register_model,
)
