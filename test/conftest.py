"""Shared by all tests: where the real data lies, if it is there."""

from contextlib import contextmanager
from itertools import islice
import json
import os
from pathlib import Path
import resource
import signal

import cv2
from hypothesis import settings
import numpy as np
import pytest
import toy_tracker  # noqa: F401  registers its model, which all that walks the registry meets
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.data.film import WorldSequence
from tpf_tracker_ros.data.panned import PannedSequence

# A busy machine makes an example slow, not wrong.
settings.register_profile('tpf', deadline=None)
settings.load_profile('tpf')


# A job in the background has it ignored, and all that it starts: tests interrupt what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

LIVE = 'ros', 'console', 'test_cli_demo.py'  # graphs and browsers, which need time to themselves


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 2`: what is live is one worker's, in its order, and so is each other file."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            _, place, *_ = Path(nodeid.partition('::')[0]).parts
            return 'live' if place in LIVE else nodeid.partition('::')[0]

    return ByFile(config, log)


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Return the folder of real third-party data; tests that need it skip where it is absent."""
    beside = Path(__file__).parents[2] / 'shared' / 'data'
    folder = Path(os.environ.get('TPF_SHARED_DATA', beside))
    if not folder.is_dir():
        pytest.skip(f'real data not found at {folder}; set TPF_SHARED_DATA to its folder')
    return folder


@pytest.fixture
def file_size_limit():
    """Give a context manager (bytes): no file can grow beyond that, as on a full disk."""

    @contextmanager
    def limited(limit):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope='session')
def frames():
    """Twelve frame pairs (320x240) panned over one of the film, ground truth (12, 4)."""
    scene = next(iter(WorldSequence(0, frames=1)))
    thermal = ThermalRange().to_uint8(scene.thermal)
    sequence = PannedSequence(scene.rgb, thermal, seed=0)
    return list(islice(sequence, 12)), sequence.ground_truth[:12].round()


@pytest.fixture(scope='session')
def write_sequence(frames):
    """Give a function (root, dataset, name): the frames in that dataset's exact layout."""
    pairs, truth = frames

    def text(path, rows, separator=',', end='\r\n'):
        path.write_text(
            end.join(separator.join(f'{v:g}' for v in row) for row in rows), newline=''
        )

    def images(folder, frames, pattern):
        folder.mkdir(parents=True)
        for index, frame in enumerate(frames):
            cv2.imwrite(str(folder / pattern.format(index + 1)), frame[..., ::-1])

    def write(root, dataset, name):
        folder = Path(root) / name
        rgb = [pair.rgb for pair in pairs]
        thermal = [np.dstack([pair.thermal] * 3) for pair in pairs]
        if dataset == 'gtot':
            images(folder / 'v', rgb, '{:05}v.png')
            images(folder / 'i', thermal, '{:05}i.png')
            corners = np.concatenate([truth[:, :2], truth[:, :2] + truth[:, 2:]], axis=1)
            text(folder / 'groundTruth_v.txt', corners, ' ', '\n')
            text(folder / 'groundTruth_i.txt', corners, ' ', '\n')
            text(folder / 'init.txt', truth, '\t')
        elif dataset == 'vtuav':
            images(folder / 'rgb', rgb, '{:06}.jpg')
            images(folder / 'ir', thermal, '{:06}.jpg')
            text(folder / 'rgb.txt', truth[::10], ' ')
            text(folder / 'ir.txt', truth[::10] + 1, ' ')
        elif dataset == 'visevent':
            images(folder / 'vis_imgs', rgb, 'frame{:04}.bmp')
            # Events are drawn in colours: one tone where it gets brighter, one where darker.
            events = [image // (4, 2, 1) for image in thermal]
            images(folder / 'event_imgs', [e.astype(np.uint8) for e in events], 'frame{:04}.bmp')
            text(folder / 'groundtruth.txt', truth, ',', '\n')
        elif dataset == 'depthtrack':
            images(folder / 'color', rgb, '{:08}.jpg')
            images(folder / 'depth', [np.uint16(20) * t[..., :1] for t in thermal], '{:08}.png')
            text(folder / 'groundtruth.txt', truth, ',', '\n')
        elif dataset == 'antiuav':
            folder.mkdir(parents=True)
            codec = cv2.VideoWriter_fourcc(*'mp4v')
            video = cv2.VideoWriter(str(folder / 'infrared.mp4'), codec, 25, (320, 240))
            for frame in thermal:
                video.write(frame)
            video.release()
            rows = {'exist': [1] * 11 + [0], 'gt_rect': [*truth[:11].tolist(), []]}
            (folder / 'infrared.json').write_text(json.dumps(rows))
        else:
            # LasHeR's names differ between sequences: i000.jpg here, 000001.jpg there.
            images(folder / 'visible', rgb, 'v{:03}.jpg')
            images(folder / 'infrared', thermal, 'i{:03}.jpg')
            for file in ('visible.txt', 'infrared.txt', 'init.txt'):
                text(folder / file, truth)
        return folder

    return write
