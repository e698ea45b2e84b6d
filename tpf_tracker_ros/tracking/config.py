"""
The settings of a tracker: one table for Python, the command line, and the node's parameters.

Two policies are sets of them: `published` is the search of the OSTrack family and nothing else;
`robust` adds what is ours, each piece with one switch. Any setting can be set on top of either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from tpf_tracker_ros.core.errors import TpfError

DEFAULT_MODEL = 'tpf_nano'  # of the command line, the node and load_tracker
POLICIES = ('robust', 'published')
Value = bool | int | float | str


class Allowed(NamedTuple):
    """What a setting means, its inclusive range, and what a name may be."""

    meaning: str
    low: float = 0
    high: float = 1
    choices: tuple[str, ...] = ()


def _setting(default: Value, *allowed: Any) -> Any:
    return field(default=default, metadata={'allowed': Allowed(*allowed)})


@dataclass(frozen=True)
class TrackerConfig:
    """The defaults are those of `robust`; a model's entry in the registry may have others."""

    policy: str = _setting('robust', 'published: every piece of ours off', 0, 0, POLICIES)
    uncertain_score: float = _setting(0.35, 'below: UNCERTAIN, no template update')
    lost_score: float = _setting(0.3, 'mean score of lost_after frames below: LOST')
    lost_after: int = _setting(20, 'frames', 1, 10_000)
    score_smoothing: float = _setting(
        0.0, 'share of the old score kept each frame, in log odds; 0: none'
    )
    doubtful_score: float = _setting(0.28, 'at it and below a size is not believed')
    confident_score: float = _setting(0.65, 'from it on a size is believed as far as it may be')
    ndtu_interval: int = _setting(5, 'frames between template updates; 0: none', 0, 10_000)
    ndtu_score: float = _setting(0.8, 'least score of a reliable frame')
    ndtu_size_jump: float = _setting(1.5, 'largest size factor between reliable frames', 1, 100)
    template_per_modality: bool = _setting(True, 'templates of its own for each set of cameras')
    blank_std: float = _setting(2.0, 'grey levels; a flatter image is left out; 0: never', 0, 255)
    faded_share: float = _setting(
        0.35, 'a camera that keeps less of its first contrast, while the other keeps it, is left '
        'out; 0: never',
    )  # fmt: skip
    frozen_ms: float = _setting(
        400.0, "a camera whose image stays the same for so long, while the other's changes, is "
        'left out; 0: never', 0, 1e6,
    )  # fmt: skip
    second_look: bool = _setting(True, 'a wider crop where the score is low, if the model has one')
    least_crop: bool = _setting(True, "search crops no smaller than the model's least, if any")
    box_calibration: float = _setting(0.5, "share of the first frame's error corrected; 0: none")
    search_calibrated: bool = _setting(
        True, 'the search goes on from corrected boxes; false: published ones alone are'
    )
    patch_overlap: float = _setting(
        0.0, 'first-frame overlap of found and given box, below: a patch, which keeps its shape'
    )
    size_smoothing: float = _setting(0.75, 'share of the old box size kept; 0: sizes as found')
    inertia: float = _setting(0.8, 'share of the last step expected of the next; 0: none')
    camera_motion: bool = _setting(True, 'a box goes with the scene if its target stands in it')
    return_lost: bool = _setting(True, 'a LOST box goes back, and stays until the target is found')
    beyond_image: bool = _setting(True, 'a box may reach beyond the image between frames')
    published_crops: bool = _setting(False, 'crops shrink bilinearly and map back unrounded')
    thermal_low: float = _setting(1.0, 'percentile of raw thermal shown as black', 0, 100)
    thermal_high: float = _setting(99.0, 'percentile of raw thermal shown as white', 0, 100)
    thermal_smoothing: float = _setting(0.9, 'share of the old thermal range kept each frame')

    @property
    def templates(self) -> int:
        """How many templates are used at once: two where a dynamic one may be renewed."""
        return 2 if self.ndtu_interval else 1

    @classmethod
    def of_model(cls, defaults: Mapping[str, Value], **given: Value) -> 'TrackerConfig':
        """Give a model's settings with those given on top; its defaults may name the policy."""
        config = cls().changed(**{k: v for k, v in defaults.items() if k != 'policy'})
        policy = given.get('policy', defaults.get('policy', config.policy))
        if policy == 'published':
            config = replace(config, **PUBLISHED)
        return config.changed(**{**given, 'policy': policy})

    def changed(self, **changes: Value) -> 'TrackerConfig':
        """Give a copy with changes. Raises TpfError on an unknown name or a value out of range."""
        values = {name: _checked(name, value) for name, value in changes.items()}
        config = replace(self, **values)
        given = ', '.join(f'{name}={value}' for name, value in changes.items())
        for holds, rule in (
            (config.lost_score <= config.uncertain_score, 'lost_score <= uncertain_score'),
            (config.doubtful_score < config.confident_score, 'doubtful_score < confident_score'),
            (config.thermal_low < config.thermal_high, 'thermal_low < thermal_high'),
            (config.score_smoothing < 1, 'score_smoothing < 1'),
            (config.size_smoothing < 1, 'size_smoothing < 1'),
            (config.thermal_smoothing < 1, 'thermal_smoothing < 1'),
        ):
            if not holds:
                raise TpfError(f'{given} breaks the rule {rule}')
        return config


PUBLISHED: dict[str, Value] = {
    'policy': 'published',
    'score_smoothing': 0.0,
    'ndtu_interval': 0,
    'template_per_modality': False,
    'blank_std': 0.0,
    'faded_share': 0.0,
    'frozen_ms': 0.0,
    'second_look': False,
    'least_crop': False,
    'box_calibration': 0.0,
    'patch_overlap': 0.0,
    'size_smoothing': 0.0,
    'inertia': 0.0,
    'camera_motion': False,
    'return_lost': False,
    'beyond_image': False,
    'published_crops': True,
}
SETTINGS = {each.name: each for each in fields(TrackerConfig)}
RENAMED = {'size_calibration': 'box_calibration'}  # old names, which are refused


def parse_setting(text: str) -> tuple[str, Value]:
    """'name=value' as given on the command line. Raises TpfError on what is no setting."""
    name, equals, value = text.partition('=')
    if not equals:
        raise TpfError(f'setting {text!r} is not NAME=VALUE')
    kind = type(_known(name).default)
    words = {'true': True, 'false': False}
    try:
        return name, words[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise TpfError(f'setting {name} is {value!r}; it must be {_title(kind)}') from None


def _known(name: str) -> Any:
    if name in RENAMED:
        raise TpfError(f'setting {name!r} is now called {RENAMED[name]!r}')
    if name not in SETTINGS:
        raise TpfError(
            f'unknown tracker setting {name!r}; choose among {", ".join(sorted(SETTINGS))}'
        )
    return SETTINGS[name]


def _checked(name: str, value: Value) -> Value:
    """Give the value in the type of the default. Raises TpfError where it does not fit."""
    setting = _known(name)
    kind, allowed = type(setting.default), setting.metadata['allowed']
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise TpfError(f'setting {name} is {value!r}; it must be {_title(kind)}')
    if allowed.choices and value not in allowed.choices:
        raise TpfError(f'{name} is {value!r}; choose one of {", ".join(allowed.choices)}')
    if kind in (int, float) and not allowed.low <= value <= allowed.high:
        rule = f'{allowed.low:g} <= {name} <= {allowed.high:g}'
        raise TpfError(f'{name}={value:g} breaks the rule {rule}')
    return value


def _title(kind: type) -> str:
    return {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a name'}[kind]
