"""Networks in torch: scan, PFA, ViT, head, TPF; the registry; reading checkpoints."""
