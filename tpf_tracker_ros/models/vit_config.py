"""What the networks of the OSTrack family have in common: the numbers of their ViT and crops."""

from dataclasses import dataclass

from tpf_tracker_ros.core.crops import Framing, SQUARE
from tpf_tracker_ros.models.layers.vit import VisionTransformer
from tpf_tracker_ros.models.network import Crops


@dataclass(frozen=True)
class VitConfig:
    """The numbers that all of them have; the defaults are those of OSTrack-256."""

    template_size: int = 128  # px, side of a template crop
    search_size: int = 256  # px, side of the search crop
    framing: Framing = SQUARE
    stride: int = 16  # px of a crop for each token
    stem: str = 'patch'  # 'patch' (one strided convolution) or 'conv' (with correlation)
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    ce_blocks: tuple[int, ...] = (3, 6, 9)  # blocks with candidate elimination
    ce_keep: float = 0.7  # share of search tokens that such a block keeps
    head_channels: int = 256

    def crops(self) -> Crops:
        """Return the crops, one cell of their grids for each token."""
        return Crops(
            template_size=self.template_size,
            search_size=self.search_size,
            template_grid=self.template_size // self.stride,
            search_grid=self.search_size // self.stride,
            framing=self.framing,
        )

    def stream(
        self, kind: type[VisionTransformer] = VisionTransformer, **more: object
    ) -> VisionTransformer:
        """Return a transformer with fresh weights; more: arguments of this kind's own."""
        crops = self.crops()
        return kind(
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            stride=self.stride,
            grid_z=crops.template_grid,
            grid_x=crops.search_grid,
            stem=self.stem,
            ce_blocks=self.ce_blocks,
            ce_keep=self.ce_keep,
            **more,
        )


# Three narrow blocks behind a convolutional stem at 64/128 px: for plain CPUs.
TINY = {
    'template_size': 64,
    'search_size': 128,
    'framing': Framing(template=1.5, search=3.0, wide=6.0, aspect=3.0, smallest=20.0),
    'stride': 8,
    'stem': 'conv',
    'dim': 96,
    'depth': 3,
    'heads': 3,
    'mlp_ratio': 2.0,
    'head_channels': 48,
}
