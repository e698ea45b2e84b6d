"""Networks in torch: scan, PFA, ViT, head, TPF; the registry; reading checkpoints."""

from tpf_tracker_ros.models import tpf  # noqa: F401  registers its sizes
from tpf_tracker_ros.models.registry import (  # noqa: F401
    create_model,
    list_models,
    packaged_weights,
    register_model,
)
