"""Videos as recorders write them, of one grey level a frame."""

from fractions import Fraction

import av
import numpy as np
import pytest


@pytest.fixture
def write_video(tmp_path):
    """Give a function (name, frames, codec, pix_fmt, pts, …) -> path of a video."""

    def write(name, frames, codec='ffv1', pix_fmt='gray', *, pts=None, rate=25, bf=0, **options):
        path = tmp_path / name
        with av.open(str(path), 'w', options=options) as container:
            stream = container.add_stream(codec, rate=rate)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pix_fmt
            stream.options = {'bf': str(bf)} if bf else {}
            for index, image in enumerate(frames):
                kind = {1: 'gray', 2: 'gray16le'}[image.itemsize] if image.ndim == 2 else 'rgb24'
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind)
                if kind == 'gray16le' and pix_fmt != kind:
                    frame = exactly(image, pix_fmt)
                frame.pts = index if pts is None else pts[index]
                frame.time_base = Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


def exactly(image, pix_fmt):
    """Return a frame of a deep grey format with these very counts."""
    frame = av.VideoFrame(image.shape[1], image.shape[0], pix_fmt)
    plane = frame.planes[0]
    kind = '>u2' if pix_fmt.endswith('be') else '<u2'
    rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size // 2), kind)
    rows[: image.shape[0], : image.shape[1]] = image
    plane.update(rows.tobytes())
    return frame
