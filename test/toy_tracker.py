"""A tracker of a few lines: the second client of the contract, as a newcomer would write it."""

import torch
from torch import nn, Tensor
from tpf_tracker_ros.models import register_model
from tpf_tracker_ros.models.layers.head import CentreHead
from tpf_tracker_ros.models.network import Crops, Maps, TrackingNetwork

DIM, STRIDE = 16, 8


class Toy(TrackingNetwork):
    """No fusion, one template: its mean feature is looked for in those of the search crop."""

    crops = Crops(template_size=32, search_size=64, template_grid=4, search_grid=8)

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(6, DIM, STRIDE, STRIDE), nn.ReLU(), nn.Conv2d(DIM, DIM, 3, padding=1)
        )
        self.head = CentreHead(DIM, 16)

    def template(self, merged: Tensor) -> Tensor:
        """Mean feature (B, D, 1, 1) of stacked template crops (B, 6, 32, 32)."""
        return self.backbone(merged).mean((2, 3), keepdim=True)

    def search(self, templates: Tensor, merged: Tensor) -> Maps:
        """Head maps; templates: (B, 1, D, 1, 1)."""
        return Maps(*self.head(torch.tanh(self.backbone(merged) * templates[:, 0])))


@register_model(policy='published')
def toy() -> Toy:
    """One convolution, compared with the template's mean; of the tests."""
    return Toy()
