"""How good a fused image is, without a reference: what it keeps of its two sources."""

import cv2
import numpy as np

# Xydeas and Petrovic 2000: gain, slope and centre of the sigmoids for strength and orientation.
_STRENGTH = (0.9994, -15.0, 0.5)
_ORIENTATION = (0.9879, -22.0, 0.8)


def fusion_measures(visible: np.ndarray, infrared: np.ndarray, fused: np.ndarray) -> dict:
    """All measures of one fused image; the images are uint8 (H, W) luminance."""
    return {
        'q_abf': q_abf(visible, infrared, fused),
        'deviation': standard_deviation(fused),
        'entropy': entropy(fused),
        'gradient': average_gradient(fused),
        'frequency': spatial_frequency(fused),
    }


def q_abf(visible: np.ndarray, infrared: np.ndarray, fused: np.ndarray) -> float:
    """
    Q_AB/F (Xydeas and Petrovic, Electronics Letters 2000): the share of edges that is kept.

    Images (H, W). By its sigmoids a fused image that equals both sources gets 0.975, not 1;
    two sources without any edge give nan.
    """
    strength_f, angle_f = _edges(fused)
    kept, total = 0.0, 0.0
    for source in (visible, infrared):
        strength, angle = _edges(source)
        high, low = np.maximum(strength, strength_f), np.minimum(strength, strength_f)
        ratio = np.divide(low, high, out=np.zeros_like(high), where=high > 0)
        turned = np.abs(angle - angle_f)
        aligned = 1 - np.minimum(turned, np.pi - turned) / (np.pi / 2)
        quality = _sigmoid(ratio, *_STRENGTH) * _sigmoid(aligned, *_ORIENTATION)
        kept += (quality * strength).sum()
        total += strength.sum()
    return float(kept / total) if total else float('nan')


def standard_deviation(image: np.ndarray) -> float:
    """Contrast of an image (H, W), in its own units."""
    return float(np.std(image, dtype=np.float64))


def entropy(image: np.ndarray) -> float:
    """Bits a pixel of the histogram of a uint8 image (H, W)."""
    share = np.bincount(image.ravel(), minlength=256) / image.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def average_gradient(image: np.ndarray) -> float:
    """Mean of sqrt((dx² + dy²) / 2) over forward differences of an image (H, W)."""
    values = image.astype(np.float64)
    dx, dy = np.diff(values, axis=1)[:-1], np.diff(values, axis=0)[:, :-1]
    return float(np.sqrt((dx**2 + dy**2) / 2).mean())


def spatial_frequency(image: np.ndarray) -> float:
    """Root of the mean squared differences along rows plus that along columns (H, W)."""
    values = image.astype(np.float64)
    rows, columns = np.diff(values, axis=1), np.diff(values, axis=0)
    return float(np.sqrt((rows**2).mean() + (columns**2).mean()))


def _edges(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel strength and orientation in 0..pi, (H, W) each."""
    values = image.astype(np.float64)
    dx, dy = cv2.Sobel(values, cv2.CV_64F, 1, 0), cv2.Sobel(values, cv2.CV_64F, 0, 1)
    return np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi


def _sigmoid(value: np.ndarray, gain: float, slope: float, centre: float) -> np.ndarray:
    return gain / (1 + np.exp(slope * (value - centre)))
