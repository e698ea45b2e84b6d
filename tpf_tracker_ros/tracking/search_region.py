"""
The search of the OSTrack family: a crop around the last box, the network, a box in it.

With `policy: published` that is all; the pieces that `policy: robust` adds stand in pieces.py, and
every place here that asks for one names its switch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
import time

import cv2
import numpy as np
from tpf_tracker_ros.core.boxes import centre, check_box, clip_box, from_centre
from tpf_tracker_ros.core.crops import Window
from tpf_tracker_ros.core.depth import depth_colours
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.frame_pair import FramePair
from tpf_tracker_ros.core.frozen import FrozenWatch
from tpf_tracker_ros.core.template_memory import TemplateMemory
from tpf_tracker_ros.core.thermal import ThermalRange
from tpf_tracker_ros.engines.engine import Engine
from tpf_tracker_ros.tracking.camera_motion import between, CameraMotion, Standing, with_camera
from tpf_tracker_ros.tracking.config import TrackerConfig, Value
from tpf_tracker_ros.tracking.pieces import (
    contrast,
    eased_size,
    faded,
    first_error,
    first_views,
    in_shape,
    is_other,
    log_odds,
    Pair,
    shape_of,
    stand_in,
    thumbnail,
    thumbnail_scale,
    with_error,
    without_error,
)
from tpf_tracker_ros.tracking.target import Appearance, Target
from tpf_tracker_ros.tracking.tracker import TrackResult, TrackState

MARGIN = 10.0  # px of a box that stay inside the image: OSTrack's


class SearchTracker:
    """Tracks one target with a network; see the Tracker protocol for the verbs."""

    def __init__(self, engine: Engine, config: TrackerConfig) -> None:
        self.name, self.device, self.fuses = engine.network.name, engine.device, engine.fuses
        self.second, self.state = engine.network.second, TrackState.IDLE
        self._engine, self._crops = engine, engine.crops
        self._target: Target | None = None
        self._range = ThermalRange()
        self._idle_range = ThermalRange()  # of the frames fused while there is no target
        self._given: np.ndarray | None = None  # the last frame that _second changed
        self._frozen, self._left_out = FrozenWatch(), ''
        self._camera = CameraMotion()
        self._memory = TemplateMemory(score=1, interval=1, size_jump=1)
        self._apply(config)

    def configure(self, **changes: Value) -> None:
        """Change settings of TrackerConfig. Raises TpfError on an unknown name or bad value."""
        if changes.get('policy', self.config.policy) != self.config.policy:
            raise TpfError('policy is chosen when a tracker is loaded; set its pieces one by one')
        config = self.config.changed(**changes)
        if config.templates > max(self.config.templates, self._engine.max_templates):
            given = ', '.join(f'{name}={value}' for name, value in changes.items())
            raise TpfError(
                f'{given} needs a tracker that was loaded with two templates; load anew'
            )
        self._apply(config)

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

    def initialize(self, pair: FramePair, box: np.ndarray) -> TrackResult:
        """Start on box (4,) x, y, w, h px in this pair. Raises TpfError on a bad box."""
        box = check_box(box, pair.size)
        stages: dict[str, float] = {}
        self._frozen.reset()
        self._left_out = self._frozen.judge(pair, self.config.frozen_ms)
        with _timed(stages, 'crop'):
            self._range.reset(pair.thermal)
        seen, modality = self._appearance(pair, box, stages)
        # The published margin would blow up a small target.
        margin = min(MARGIN, *(box[2:] / 2)) if self.config.beyond_image else MARGIN
        first = deepcopy(pair.only(modality))  # the caller may fill its images anew
        small, levels = self._thumbnails(pair)
        sees, place = {modality: seen}, Standing(centre(box))
        target = Target(first, box, box, margin, modality, sees, place, levels)
        self._camera = CameraMotion()
        self._camera_motion(target, small)
        self._memory.reset(box)
        self._target, self.state = target, TrackState.TRACKING
        return TrackResult(box, 1.0, self.state, modality, stages=stages)

    def track(self, pair: FramePair) -> TrackResult:
        """Find the target in the next pair; TpfError before initialize or on another size."""
        target, config = self._target, self.config
        if target is None:
            raise TpfError('track was called before initialize; give the target first')
        if pair.size != target.image_size:
            before, now = ('{}x{}'.format(*size) for size in (target.image_size, pair.size))
            raise TpfError(f'image size changed from {before} to {now}; initialize again')
        stages: dict[str, float] = {}
        with _timed(stages, 'crop'):
            pair = self._without_frozen(pair)
            if pair.thermal is not None:
                self._range.update(pair.thermal)

        # 1. Where to look: around the last box, moved with the scene (camera_motion) and on
        # (inertia); and in which images (faded_share).
        with _timed(stages, 'crop'):
            small, levels = self._thumbnails(pair)
            stands = self._go_with_scene(target, small)
            pair = pair.without(faded(target.contrasts, levels, config.faded_share))
        expected = np.concatenate([target.box[:2] + target.velocity, target.box[2:]])
        wide = self._crops.framing.wide if config.second_look else 0
        lost = self.state is TrackState.LOST
        factor = self._search_factor(expected, wide if lost and wide else None)

        # 2. The crop, and templates of the images that are in use in it (template_per_modality).
        window, crop, modality = self._search_crop(pair, expected, factor, stages)
        if modality != target.modality and config.template_per_modality:
            self._follow_modality(pair, expected, modality, stages)

        # 3. The network's box; where it is unsure, the better one of a wider crop (second_look).
        found, score = self._locate(target.appearance, expected, window, crop, stages)
        if wide and not lost and score < config.uncertain_score:
            factor = self._search_factor(expected, wide)
            other, other_score = self._look(pair, target.appearance, expected, factor, stages)
            if other_score > score:
                found, score = other, other_score

        with _timed(stages, 'update'):
            # 4. The box to go on from (box_calibration, size_smoothing, camera_motion).
            box = self._refine(target, found, score)
            if stands is not None:
                box = self._believe(target, box, score, stands)
            # 5. The state, by this score and those before (score_smoothing); a LOST box goes back
            # (return_lost).
            score = self._steady(target, score)
            self._judge(target, score)
            # 6. The box and what is expected next. After 5: a LOST target does not move.
            self._move(target, box)
        # 7. The dynamic template. After 6: its crop is that of the new box.
        updated = self._renew_template(pair, target, score, stages)
        shown = self._published(target)
        return TrackResult(shown, score, self.state, modality, updated, stages, self._left_out)

    def fuse(self, pair: FramePair) -> np.ndarray | None:
        """
        Return the whole frame fused: uint8 (H, W, 3) RGB, None from a network that fuses none.

        One thread may fuse while another one tracks: fusing leaves what tracking uses as it is.
        """
        pair, idle = pair.without(self._left_out), self.state is TrackState.IDLE
        thermal = pair.thermal
        if thermal is not None:
            thermal = self._idle_range.to_uint8(thermal) if idle else self._range.apply(thermal)
        return self._engine.fuse(*stand_in(pair.rgb, thermal, self.config.blank_std)[0])

    def stop(self) -> None:
        """Drop the target."""
        self._target, self.state, self._left_out = None, TrackState.IDLE, ''

    # ---- crops and the network ----

    def _without_frozen(self, pair: FramePair) -> FramePair:
        """Leave out a camera that gives the same image again and again (frozen_ms)."""
        self._left_out = self._frozen.judge(pair, self.config.frozen_ms)
        return pair.without(self._left_out)

    def _thumbnails(self, pair: FramePair) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Return the frame small, uint8, of each camera that is not blank, and all contrasts."""
        if not self.config.camera_motion and not self.config.faded_share:
            return {}, {}
        images = ('rgb', pair.rgb), ('thermal', pair.thermal)
        small = {n: self._range.apply(thumbnail(each)) for n, each in images if each is not None}
        levels = {name: contrast(image) for name, image in small.items()}
        return {n: small[n] for n in small if levels[n] >= self.config.blank_std}, levels

    def _camera_motion(self, target: Target, small: dict[str, np.ndarray]) -> np.ndarray | None:
        small = small if self.config.camera_motion else {}
        return self._camera.update(small, thumbnail_scale(target.image_size), target.box)

    def _search_factor(self, box: np.ndarray, wide: float | None = None) -> float:
        """Sides of a search crop in those of a box (4,); least_crop: of a box no smaller."""
        framing = self._crops.framing
        least = framing.smallest if self.config.least_crop else 0
        # A crop magnified further would show no more of the target.
        return (wide or framing.search) * max(1, least / np.sqrt(box[2:].prod()))

    def _window(self, box: np.ndarray, factor: float) -> Window:
        framing = self._crops.framing
        return Window.around(box, factor, aspect=framing.aspect, context=framing.context)

    def _template_crop(self, pair: FramePair, box: np.ndarray) -> tuple[Pair, str]:
        window = self._window(box, self._crops.framing.template)
        return self._cut(pair, window, self._crops.template_size)

    def _search_crop(
        self, pair: FramePair, box: np.ndarray, factor: float, stages: dict[str, float]
    ) -> tuple[Window, Pair, str]:
        with _timed(stages, 'crop'):
            window = self._window(box, factor)
            return window, *self._cut(pair, window, self._crops.search_size)

    def _second(self, pair: FramePair) -> np.ndarray | None:
        """Return what the network is to see of the second camera's frame, made once a pair."""
        image = pair.thermal
        if image is None or (
            self.second != 'depth' if image.ndim == 2 else self.second == 'events'
        ):
            return image
        if self._given is not image:
            self._given = image
            grey = image.ndim == 2
            self._shown = depth_colours(image) if grey else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return self._shown

    def _cut(self, pair: FramePair, window: Window, size: int) -> tuple[Pair, str]:
        area = not self.config.published_crops
        rgb, thermal = (
            None if image is None else window.take(image, size, area=area)
            for image in (pair.rgb, self._second(pair))
        )
        thermal = None if thermal is None else self._range.apply(thermal)
        hide = self._engine.network.hides_dead
        inside = window.inside(pair.size, size)
        return stand_in(rgb, thermal, self.config.blank_std, inside=inside, hide=hide)

    def _locate(
        self,
        seen: Appearance,
        around: np.ndarray,
        window: Window,
        crop: Pair,
        stages: dict[str, float],
    ) -> tuple[np.ndarray, float]:
        """Box (4,) px and score that the network gives for the crop of a window around a box."""
        with _timed(stages, 'network'):
            relative, score = self._engine.locate(seen.templates, *crop)
        middle = centre(around) if self.config.published_crops else None
        return window.to_image(relative, middle=middle), score

    def _look(
        self,
        pair: FramePair,
        seen: Appearance,
        around: np.ndarray,
        factor: float,
        stages: dict[str, float],
    ) -> tuple[np.ndarray, float]:
        """Crop around a box (4,) and locate; returns what _locate does."""
        window, crop, _ = self._search_crop(pair, around, factor, stages)
        return self._locate(seen, around, window, crop, stages)

    # ---- the target as it looks ----

    def _appearance(
        self, pair: FramePair, box: np.ndarray, stages: dict[str, float]
    ) -> tuple[Appearance, str]:
        """
        Return how the target in this box (4,) looks, and the images that show it.

        Where the network's boxes are another thing's, such as one in a patch of a scene that the
        user drew, it is that one's way and size that later boxes tell: they are corrected by all
        of the error, and keep the shape that was drawn.
        """
        config = self.config
        with _timed(stages, 'crop'):
            crop, modality = self._template_crop(pair, box)
        with _timed(stages, 'network'):
            kept = self._engine.keep_template(*crop)
        seen = Appearance([kept] * self._engine.max_templates)
        if not config.box_calibration and not config.patch_overlap:
            return seen, modality
        factor = self._search_factor(box)
        found = [self._look(pair, seen, view, factor, stages) for view in first_views(box)]
        error = first_error([each for each, _ in found], box)
        if is_other(with_error(box, error), box, config.patch_overlap):
            seen.error, seen.shape = error, shape_of(box)
        elif config.search_calibrated:
            seen.error = config.box_calibration * error
        else:
            seen.shown_error = config.box_calibration * error
        return seen, modality

    def _follow_modality(
        self, pair: FramePair, expected: np.ndarray, modality: str, stages: dict[str, float]
    ) -> None:
        """
        Go on with the target as the images now in use show it.

        When a camera fails or recovers, it is not the target that changed. How it looks in these
        images is known, or told by the first frame, if they were there; else by what is now in
        the expected box (4,).
        """
        target = self._target
        if modality not in target.appearances:
            if all(camera in target.first.modality for camera in modality.split('+')):
                pair, expected = target.first.only(modality), target.first_box
            elif self.state is TrackState.LOST:
                return
            target.appearances[modality], _ = self._appearance(pair, expected, stages)
        target.modality = modality
        self._memory.skip()

    # ---- the target from one frame to the next ----

    def _go_with_scene(self, target: Target, small: dict[str, np.ndarray]) -> float | None:
        """Move the target's box as far as it stands in the scene; returns how far, 0..1."""
        motion = self._camera_motion(target, small)
        target.standing.carry(motion, centre(target.box))
        if motion is None:
            return None
        # A patch is a part of the scene.
        stands = 1.0 if target.appearance.shape is not None else target.standing.share
        box = with_camera(target.box, motion, stands)
        size = box[2:].clip(target.margin, target.image_size)  # whatever was measured
        target.box = from_centre(*centre(box).clip(0, target.image_size), *size)
        target.recent = [(score, with_camera(box, motion, stands)) for score, box in target.recent]
        return stands

    def _believe(
        self, target: Target, found: np.ndarray, score: float, stands: float
    ) -> np.ndarray:
        """Return a box (4,) between where the scene has it and the found one, by the score."""
        target.standing.add(found, score)
        least, most = self.config.uncertain_score, self.config.ndtu_score
        sure = min(max((score - least) / max(most - least, 1e-6), 0.0), 1.0)
        return between(target.box, found, 1 - stands * (1 - sure))

    def _refine(self, target: Target, found: np.ndarray, score: float) -> np.ndarray:
        """Return the found box (4,) calibrated, its size eased."""
        config = self.config
        seen = target.appearance
        if seen.error.any():
            found = without_error(found, seen.error)
        if seen.shape is not None:
            found = in_shape(found, seen.shape)
        middle, size = centre(found), found[2:]
        if config.size_smoothing:
            span = config.confident_score - config.doubtful_score
            trust = (score - config.doubtful_score) / span
            if seen.shape is not None:
                trust = score  # a patch does not change its size by itself, as an object may
            trust = min(max(trust, 0), 1)
            size = eased_size(target.box[2:], size, keep=config.size_smoothing, trust=trust)
        if config.beyond_image:
            return from_centre(*middle, *size.clip(target.margin, target.image_size))
        return clip_box(from_centre(*middle, *size), target.image_size, target.margin)

    def _published(self, target: Target) -> np.ndarray:
        """Return the box (4,) to publish: clipped, and calibrated where the search is not."""
        box, error = target.box, target.appearance.shown_error
        if error.any():
            box = without_error(box, error)
        return clip_box(box, target.image_size, target.margin)

    def _steady(self, target: Target, score: float) -> float:
        """Return the score with a share of those before."""
        keep = self.config.score_smoothing
        if keep == 0:
            return score
        now = log_odds(score)
        before = now if target.log_odds is None else target.log_odds
        target.log_odds = keep * before + (1 - keep) * now
        return 1 / (1 + np.exp(-target.log_odds))

    def _judge(self, target: Target, score: float) -> None:
        """
        Set the state by this frame's score and the mean of the last lost_after scores.

        A mean, since a search crop without the target scores low but not evenly so.
        """
        config = self.config
        target.recent = [*target.recent, (score, target.box)][-config.lost_after :]  # noqa: E203
        mean = sum(score for score, _ in target.recent) / config.lost_after
        if len(target.recent) == config.lost_after and mean < config.lost_score:
            if self.state is not TrackState.LOST and config.return_lost:
                # To where it was before those scores: since then it followed something else.
                target.box = target.recent[0][1]
            self.state = TrackState.LOST
        elif score < config.uncertain_score:
            self.state = TrackState.UNCERTAIN
        else:
            self.state = TrackState.TRACKING

    def _move(self, target: Target, box: np.ndarray) -> None:
        """Go on from this box (4,), which may reach beyond the image, but not with its centre."""
        config = self.config
        if self.state is TrackState.LOST and config.return_lost:
            target.velocity = np.zeros(2)
            return
        if config.beyond_image:
            box = from_centre(*centre(box).clip(0, target.image_size), *box[2:])
        target.velocity = config.inertia * (centre(box) - centre(target.box))
        target.box = box

    # ---- the dynamic template ----

    def _renew_template(
        self, pair: FramePair, target: Target, score: float, stages: dict[str, float]
    ) -> bool:
        """NDTU: take a reliable frame as the dynamic template; returns whether it did."""
        if self.config.ndtu_interval == 0 or self._engine.max_templates < 2:
            return False
        with _timed(stages, 'update'):
            if self.state is not TrackState.TRACKING:
                self._memory.skip()
                return False
            crop = self._memory.offer(
                score,
                target.box,
                target.image_size,
                lambda: self._template_crop(pair, target.box)[0],
            )
        if crop is None:
            return False
        with _timed(stages, 'network'):
            target.appearance.templates[1] = self._engine.keep_template(*crop)
        return True


@contextmanager
def _timed(stages: dict[str, float], name: str) -> Iterator[None]:
    """Add the milliseconds of a block to a stage."""
    start = time.perf_counter()
    yield
    stages[name] = stages.get(name, 0.0) + (time.perf_counter() - start) * 1e3
