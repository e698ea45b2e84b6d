"""What the public training code of CKD and SDSTrack has in common."""

from dataclasses import dataclass

from tpf_tracker_ros.training.losses.tracking import TrackingConfig
from tpf_tracker_ros.training.stage import RunConfig


@dataclass(frozen=True)
class PublishedRecipe(TrackingConfig, RunConfig):
    """Labels and course of a run as published: one rate throughout, the last weights taken."""

    warmup: int = 0
    final_rate: float = 1.0
    clip: float = 0.1
    ema: float = 0.0
    matching_weight: float = 0.0
    published_labels: bool = True
    drop_path: float = 0.1  # share of the residuals that a stream's last block leaves out
