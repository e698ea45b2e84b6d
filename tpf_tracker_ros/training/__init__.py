"""The synthetic RGB-T world, losses and training stages."""
