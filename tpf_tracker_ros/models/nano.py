"""
TPF in front of a pretrained tracker: the fusion adapter, then NanoTrack v3's network.

The paper's own idea (arXiv 2503.11247): fusion is independent of the tracker. NanoTrack was
trained on large sets of real films, and is left as it is; the adapter is trained through it.
NDTU by a second template: where the target is, both tell, in the mean of their logits; its box is
that of the initial one alone, so that an ill-placed dynamic template cannot make the box drift.
"""

from collections.abc import Callable

import torch
from torch import nn, Tensor
from tpf_tracker_ros.core.crops import Framing
from tpf_tracker_ros.models.layers.nanotrack import NanoBackbone, NanoHead
from tpf_tracker_ros.models.layers.pfa import PixelFusionAdapter
from tpf_tracker_ros.models.network import Crops, Maps, Normalization, TrackingNetwork
from tpf_tracker_ros.models.registry import PublishedKeys, register_model

# px of the search crop from cell to cell; the middle cell's point is the crop's middle.
STRIDE = 16
# Of the score that places the box: logits are about 9 on the target and below 4 off it.
LOGIT_MIDDLE, LOGIT_SCALE = 5.5, 1.5
# Of the confidence: fitted to whether the box is right (IoU > 0.5) on real images, see the card.
RIGHT_MIDDLE, RIGHT_SCALE = 6.28, 1.88


class TpfNano(TrackingNetwork):
    """Pixels are fused first; a Siamese network of 0.54 M frozen parameters sees one image."""

    crops = Crops(
        template_size=127,
        search_size=255,
        template_grid=8,
        search_grid=15,
        framing=Framing(template=2.0, search=4.0, context=True),
    )
    max_templates = 2
    fuses = True

    def __init__(self) -> None:
        super().__init__()
        self.pfa = PixelFusionAdapter(
            channels=16, stride=STRIDE, d_state=4, mixer_directions=('right', 'up'), convex=True
        )
        self.backbone = NanoBackbone()
        self.ban_head = NanoHead()
        for part in (self.backbone, self.ban_head):
            part.requires_grad_(False)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in vars(Normalization()).values())
        self.register_buffer('raw_scale', 255 * std, persistent=False)
        self.register_buffer('raw_shift', 255 * mean, persistent=False)
        steps = torch.arange(self.crops.search_grid) - self.crops.search_grid // 2
        # Of the cells, relative to the crop.
        points = 0.5 + steps * STRIDE / self.crops.search_size
        lag = points * self.crops.search_grid - torch.arange(self.crops.search_grid)
        self.register_buffer(
            'point', torch.stack(torch.meshgrid(lag, lag, indexing='xy')), persistent=False
        )

    def train(self, mode: bool = True) -> nn.Module:
        """Let the adapter train; the tracker keeps the statistics of its own training."""
        super().train(mode)
        self.backbone.eval()
        self.ban_head.eval()
        return self

    def merge(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        """Fused images (B, 3, H, W) from normalised RGB and thermal (B, 3, H, W) of any size."""
        return self.pfa(rgb, thermal)

    def template(self, merged: Tensor) -> Tensor:
        """Features (B, 96, 8, 8) of fused template crops (B, 3, 127, 127)."""
        return self.features(merged)

    def search(self, templates: Tensor, merged: Tensor) -> Maps:
        """Give the maps for one or two templates' features (B, K, 96, 8, 8), see the contract."""
        return self.answer(templates, self.features(merged))

    def features(self, merged: Tensor) -> Tensor:
        """Features (B, 96, S / 16, S / 16) of fused crops (B, 3, S, S)."""
        # NanoTrack sees 8-bit B, G, R.
        return self.backbone(torch.addcmul(self.raw_shift, merged, self.raw_scale).flip(1))

    def answer(self, templates: Tensor, features: Tensor) -> Maps:
        """Give the maps for templates' (B, K, 96, 8, 8) and search features (B, 96, 16, 16)."""
        batch, count = templates.shape[:2]
        repeated = features[:, None].expand(-1, count, -1, -1, -1).flatten(0, 1)
        logits = self.ban_head.classify(templates.flatten(0, 1), repeated)
        logits = logits.unflatten(0, (batch, count)).mean(1)
        logit = logits[:, 1:] - logits[:, :1]
        score = ((logit - LOGIT_MIDDLE) / LOGIT_SCALE).sigmoid()
        confidence = ((logit - RIGHT_MIDDLE) / RIGHT_SCALE).sigmoid()
        sides = self.ban_head.regress(templates[:, 0], features) / self.crops.search_size
        before, after = sides[:, :2], sides[:, 2:]  # left and top; right and bottom
        offset = self.point + (after - before) * (self.crops.search_grid / 2)
        return Maps(score, before + after, offset, confidence)

    def parts(
        self, templates: Tensor, rgb: Tensor, thermal: Tensor
    ) -> dict[str, Callable[[], object]]:
        """Name the parts of a search step in their order, see the contract."""
        fused = self.merge(rgb, thermal)
        features = self.features(fused)
        return {
            'pfa': lambda: self.merge(rgb, thermal),
            'backbone': lambda: self.features(fused),
            'head': lambda: self.answer(templates, features),
        }

    def group(self, key: str) -> str:
        """Tell the group of a weight by its key."""
        return {'pfa': 'adapter'}.get(key.partition('.')[0], 'frozen')


NANOTRACK = PublishedKeys(
    unused=lambda key: key.startswith('neck.'),  # part of the file, not of its network
    ours=lambda key: key.startswith(('backbone.', 'ban_head.')),
    rest='the fusion adapter starts as plain averaging',
    licence='Apache-2.0; backbone and head: NanoTrack v3, '
    'github.com/HonglinChu/NanoTrack, unchanged',
)


@register_model(
    published=NANOTRACK,
    defaults={
        'uncertain_score': 0.25,
        'lost_score': 0.2,
        'score_smoothing': 0.7,
        'ndtu_score': 0.8,
        'ndtu_interval': 10,
        # Sizes are steady by themselves: each of these costs more on films than it brings.
        'doubtful_score': 0.0,
        'confident_score': 0.01,
        'search_calibrated': False,
        'patch_overlap': 0.8,
        'size_smoothing': 0.5,
        'inertia': 0.0,
        'return_lost': False,
    },
)
def tpf_nano() -> TpfNano:
    """Fusion adapter before NanoTrack v3, at 127/255 px; loads NanoTrack's checkpoint."""
    return TpfNano()
