"""The TPF tracker: crops in, network, response window, box out, dynamic template kept."""

from collections.abc import Iterator
from contextlib import contextmanager
import time

import cv2
import numpy as np
from tpf_tracker_ros.core.boxes import centre, check_box, clip_box, from_centre
from tpf_tracker_ros.core.crops import Window
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.template_memory import TemplateMemory
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.tracking.config import TrackerConfig
from tpf_tracker_ros.tracking.tracker import TrackResult, TrackState

# Where the search views of the first frame look, in target sizes beside the target.
FIRST_VIEWS = (0, 0), (0.4, 0.2), (-0.2, 0.4), (-0.4, -0.2), (0.2, -0.4)
DOUBTFUL, CONFIDENT = 0.28, 0.65  # scores at which sizes stay, and move at their full rate
INERTIA = 0.8  # share of the last step that the next one is expected to be
LARGEST_ERROR = 0.5  # in target sizes, and of log width and height
LEASH = 1.35  # factor by which a size may leave that of the last CONFIDENT frame meanwhile


class TpfTracker:
    """Tracks one target with a network; see the Tracker protocol for the verbs."""

    def __init__(self, engine: Engine, config: TrackerConfig) -> None:
        self.name, self.device, self.fuses = engine.network.name, engine.device, engine.fuses
        self.state = TrackState.IDLE
        self._engine, self._framing = engine, engine.crops.framing
        self._range = ThermalRange()
        self._idle_range = ThermalRange()  # of the frames fused while there is no target
        self._memory = TemplateMemory(score=1, interval=1, size_jump=1)
        self._apply(config)

    def configure(self, **changes: float) -> None:
        """Change settings of TrackerConfig. Raises TpfError on an unknown name or bad value."""
        self._apply(self.config.changed(**changes))

    def _apply(self, config: TrackerConfig) -> None:
        self.config = config
        for each in (self._range, self._idle_range):
            each.low, each.high = config.thermal_low, config.thermal_high
            each.smoothing = config.thermal_smoothing
        self._memory.score = config.ndtu_score
        self._memory.interval = config.ndtu_interval
        self._memory.size_jump = config.ndtu_size_jump

    @property
    def template_updates(self) -> int:
        """How often NDTU has renewed the dynamic template since initialize."""
        return self._memory.updates

    def initialize(self, pair: FramePair, box: np.ndarray) -> None:
        """Start on box (4,) x, y, w, h px in this pair. Raises TpfError on a bad box."""
        box = check_box(box, pair.size)
        self._size, self._box, self._velocity = pair.size, box, np.zeros(2)
        self._sure = box[2:]  # the size of the last CONFIDENT frame
        self._recent: list[tuple[float, np.ndarray]] = []  # scores, and the boxes before them
        self._margin = min(10.0, *(box[2:] / 2))  # BASE's 10 px would blow up a small target
        self._range.reset(pair.thermal)
        crop, self._modality = self._template_crop(pair)
        self._initial = self._engine.keep_template(*crop)
        self._templates = [self._initial] * self._engine.max_templates
        self._dynamic = {}
        self._memory.reset(box)
        self._error = self._measure_error(pair)
        self.state = TrackState.TRACKING

    def track(self, pair: FramePair) -> TrackResult:
        """Find the target in the next pair; TpfError before initialize or on another size."""
        if self.state is TrackState.IDLE:
            raise TpfError('track was called before initialize; give the target first')
        if pair.size != self._size:
            raise TpfError(
                f'image size changed from {self._size} to {pair.size}; initialize again'
            )
        stages: dict[str, float] = {}
        with _timed(stages, 'crop'):
            if pair.thermal is not None:
                self._range.update(pair.thermal)
            expected = np.concatenate([self._box[:2] + self._velocity, self._box[2:]])
            lost = self.state is TrackState.LOST
            wide = self._framing.wide
            factor = wide if lost and wide else self._framing.search
            window = self._search_window(expected, factor)
            crop, modality = self._crop(pair, window, self._engine.crops.search_size)
            if modality != self._modality:
                self._follow_modality(pair, modality)
        with _timed(stages, 'network'):
            relative, score = self._engine.locate(self._templates, *crop)
            found = window.to_image(relative)
            if wide and not lost and score < self.config.uncertain_score:
                found, score = self._look_wider(pair, expected, found, score)
        with _timed(stages, 'template'):
            box = self._smooth(found, score)
            self._judge(score)
            self._move(box)
            updated = self._renew_template(pair, score)
        shown = clip_box(self._box, self._size, self._margin)
        return TrackResult(shown, score, self.state, modality, updated, stages)

    def fuse(self, pair: FramePair) -> np.ndarray | None:
        """
        Return the whole frame fused: uint8 (H, W, 3) RGB, None from a network that fuses none.

        One thread may fuse while another one tracks: fusing leaves what tracking uses as it is.
        """
        thermal, idle = pair.thermal, self.state is TrackState.IDLE
        if thermal is not None:
            thermal = self._idle_range.to_uint8(thermal) if idle else self._range.apply(thermal)
        return self._engine.fuse(*self._both(pair.rgb, thermal)[0])

    def stop(self) -> None:
        """Drop the target."""
        self.state = TrackState.IDLE

    def _window(self, box: np.ndarray, factor: float) -> Window:
        framing = self._framing
        return Window.around(box, factor, aspect=framing.aspect, context=framing.context)

    def _search_window(self, box: np.ndarray, factor: float) -> Window:
        """Give a window: a crop magnified further would show no more of the target (ours)."""
        return self._window(box, factor * max(1, self._framing.smallest / np.sqrt(box[2:].prod())))

    def _look_wider(
        self, pair: FramePair, expected: np.ndarray, found: np.ndarray, score: float
    ) -> tuple[np.ndarray, float]:
        """
        Return the better of this box (4,) px and score and those of a wider window.

        Not in the paper: a narrow window sees the target sharply and few others like it, but a
        jump of more than the target's size leaves it.
        """
        window = self._search_window(expected, self._framing.wide)
        crop, _ = self._crop(pair, window, self._engine.crops.search_size)
        relative, wide_score = self._engine.locate(self._templates, *crop)
        return (window.to_image(relative), wide_score) if wide_score > score else (found, score)

    def _template_crop(self, pair: FramePair) -> tuple[tuple, str]:
        window = self._window(self._box, self._framing.template)
        return self._crop(pair, window, self._engine.crops.template_size)

    def _follow_modality(self, pair: FramePair, modality: str) -> None:
        """
        Take the dynamic template that suits the images now in use.

        Not in the paper: when a camera fails or recovers, it is not the target that changed, so
        what lies at its last place is the target as the new images show it. A template of the
        last time with these images is kept and preferred.
        """
        if self.state is TrackState.LOST or len(self._templates) < 2:
            return
        self._dynamic[self._modality] = self._templates[-1]
        if modality not in self._dynamic:
            self._dynamic[modality] = self._engine.keep_template(*self._template_crop(pair)[0])
        self._templates = [self._initial, self._dynamic[modality]]
        self._modality = modality
        self._memory.skip()

    def _crop(self, pair: FramePair, window: Window, size: int) -> tuple[tuple, str]:
        rgb = None if pair.rgb is None else window.take(pair.rgb, size)
        thermal = None if pair.thermal is None else window.take(pair.thermal, size)
        return self._both(rgb, None if thermal is None else self._range.apply(thermal))

    def _both(
        self, rgb: np.ndarray | None, thermal: np.ndarray | None
    ) -> tuple[tuple[np.ndarray, np.ndarray], str]:
        """
        Two uint8 (H, W, 3) images and the modalities in use.

        An image that is absent or blank is replaced by the other one: fusion then leaves that
        one as it is, instead of halving its contrast.
        """
        grey = None if thermal is None else np.repeat(thermal[..., None], 3, axis=-1)
        if rgb is not None and grey is not None:
            flat_rgb = contrast(rgb) < self.config.blank_std
            flat_grey = contrast(thermal) < self.config.blank_std
            if flat_rgb and not flat_grey:
                rgb = None
            elif flat_grey and not flat_rgb:
                grey = None
        if rgb is None:
            return (grey, grey), 'thermal'
        if grey is None:
            return (rgb, rgb), 'rgb'
        return (rgb, grey), 'rgb+thermal'

    def _measure_error(self, pair: FramePair) -> np.ndarray:
        """
        Return the network's error (4,) in the first frame, where the truth is known.

        The found centre less the true one in target sizes (x, y), and the log of found over true
        (width, height). Not in the paper: what the network takes for the target's middle and
        extent is not always what the user drew a box around, and it errs alike in later frames.
        """
        errors = [np.zeros(4)]
        x, y, w, h = self._box
        for right, down in FIRST_VIEWS if self.config.box_calibration else ():
            view = np.array([x + right * w, y + down * h, w, h])
            window = self._search_window(view, self._framing.search)
            crop, _ = self._crop(pair, window, self._engine.crops.search_size)
            found = window.to_image(self._engine.locate(self._templates, *crop)[0])
            place = (centre(found) - centre(self._box)) / found[2:]
            if np.abs(place).max() < 0.5:
                errors.append(np.concatenate([place, np.log(found[2:] / self._box[2:])]))
        error = np.median(errors[1:] or errors, axis=0)
        return error.clip(-LARGEST_ERROR, LARGEST_ERROR)

    def _smooth(self, found: np.ndarray, score: float) -> np.ndarray:
        """
        Return the found box (4,) calibrated by the first frame's error, its size eased.

        Not in the paper: a small network's sizes jitter, and each window follows from the box. A
        score between DOUBTFUL and CONFIDENT moves the size less, as in SiamRPN, and not far: a
        target that is half hidden looks like a smaller one.
        """
        error = self.config.box_calibration * self._error
        trust = min(max((score - DOUBTFUL) / (CONFIDENT - DOUBTFUL), 0), 1)
        keep = 1 - (1 - self.config.size_smoothing) * trust
        size = self._box[2:] ** keep * (found[2:] / np.exp(error[2:])) ** (1 - keep)
        if score >= CONFIDENT:
            self._sure = size
        size = size.clip(self._sure / LEASH, self._sure * LEASH).clip(self._margin, self._size)
        return from_centre(*(centre(found) - error[:2] * found[2:]), *size)

    def _move(self, box: np.ndarray) -> None:
        """
        Go on from this box (4,), which may reach beyond the image, but not with its centre.

        Not in the paper: the next window lies where the target will be if it keeps its velocity.
        """
        if self.state is TrackState.LOST:
            self._velocity = np.zeros(2)
            return
        middle = centre(box).clip(0, self._size)
        self._velocity = INERTIA * (middle - centre(self._box))
        self._box = from_centre(*middle, *box[2:])

    def _judge(self, score: float) -> None:
        """
        Set the state by this frame's score and the mean of the last lost_after scores.

        A mean, since a search view without the target scores low but not evenly so. Not in the
        paper: a LOST box goes back to where it was before those scores; on the way from there it
        followed what is not the target.
        """
        config = self.config
        first = -config.lost_after
        self._recent = [*self._recent, (score, self._box)][first:]
        mean = sum(score for score, _ in self._recent) / config.lost_after
        if len(self._recent) == config.lost_after and mean < config.lost_score:
            if self.state is not TrackState.LOST:
                self._box = self._recent[0][1]
            self.state = TrackState.LOST
        elif score < config.uncertain_score:
            self.state = TrackState.UNCERTAIN
        else:
            self.state = TrackState.TRACKING

    def _renew_template(self, pair: FramePair, score: float) -> bool:
        if self.config.ndtu_interval == 0 or len(self._templates) < 2:
            return False
        if self.state is not TrackState.TRACKING:
            self._memory.skip()
            return False
        template = self._memory.offer(
            score, self._box, self._size, lambda: self._template_crop(pair)[0]
        )
        if template is None:
            return False
        self._templates = [self._initial, self._engine.keep_template(*template)]
        return True


def contrast(image: np.ndarray) -> float:
    """Deviation in grey levels of an image (H, W[, C]) averaged over 8 x 8 px: noise is none."""
    coarse = cv2.resize(image, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    return float(coarse.std((0, 1)).max())


@contextmanager
def _timed(stages: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    stages[name] = (time.perf_counter() - start) * 1e3
