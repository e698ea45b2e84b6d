import cv2
import numpy as np
import pytest
from tpf_tracker_ros.evaluation.timeline import BANDS, draw_timeline


def count(picture: np.ndarray, colour: str, alpha: float = 1.0) -> int:
    """Pixels of a colour '#RRGGBB' on white."""
    rgb = np.array(list(bytes.fromhex(colour[1:])))
    mixed = 255 - alpha * (255 - rgb)
    return int((np.abs(picture[..., ::-1] - mixed) < 3).all(-1).sum())


@pytest.mark.parametrize(('with_truth', 'dropped'), [(True, 0.2), (False, 0.0), (False, 1.0)])
def test_rows_and_bands(tmp_path, with_truth, dropped):
    count_of_pairs = 100
    lost = np.arange(count_of_pairs) >= 80
    values = np.full(count_of_pairs, 0.5)
    values[: int(dropped * count_of_pairs)] = np.nan
    draw_timeline(
        tmp_path / 'report.png',
        title='a run',
        seconds=np.arange(count_of_pairs) / 30,
        iou=np.full(count_of_pairs, 0.6) if with_truth else None,
        score=values,
        state=list(np.where(lost, 'LOST', 'TRACKING')),
        latency_ms=values * 80,
        note='how it was measured',
    )
    picture = cv2.imread(str(tmp_path / 'report.png')).astype(int)
    height, width = picture.shape[:2]
    assert (width, height) == (1200, 912 if with_truth else 648)
    share = count(picture, BANDS['LOST'], 0.3) / (height * width)
    assert 0.03 < share < 0.2
    # The legend shows a patch of each band.
    assert 0 < count(picture, BANDS['UNCERTAIN'], 0.3) < 2000
