"""Thresholds and policies of the tracker: the names that `configure` and the node accept."""

from dataclasses import dataclass, fields, replace

from tpf_tracker_ros.core.errors import TpfError


@dataclass(frozen=True)
class TrackerConfig:
    """All may change while tracking."""

    uncertain_score: float = 0.35  # below: UNCERTAIN, no template update
    lost_score: float = 0.3  # mean score of lost_after frames below: LOST
    lost_after: int = 20  # frames
    ndtu_score: float = 0.8  # least score of a reliable frame
    ndtu_interval: int = 5  # frames between template updates; 0 switches NDTU off
    ndtu_size_jump: float = 1.5  # largest size factor between reliable frames
    size_smoothing: float = 0.75  # share of the old box size kept each reliable frame; 0: none
    box_calibration: float = 0.5  # share of the first frame's errors corrected later; 0: none
    blank_std: float = 2.0  # grey levels of 8 px averages; a flatter image is left out
    thermal_low: float = 1.0  # percentile of raw thermal shown as black
    thermal_high: float = 99.0  # percentile shown as white
    thermal_smoothing: float = 0.9  # share of the old thermal range kept each frame

    def changed(self, **changes: float) -> 'TrackerConfig':
        """Give a copy with changes. Raises TpfError on an unknown name or a value out of range."""
        known = {field.name for field in fields(self)}
        for name in changes:
            if name not in known:
                raise TpfError(
                    f'unknown tracker setting {name!r}; choose among {", ".join(sorted(known))}'
                )
        config = replace(self, **changes)
        rules = (
            (
                0 <= config.lost_score <= config.uncertain_score <= 1,
                '0 <= lost_score <= uncertain_score <= 1',
            ),
            (config.lost_after >= 1, 'lost_after >= 1'),
            (0 <= config.ndtu_score <= 1, '0 <= ndtu_score <= 1'),
            (config.ndtu_interval >= 0, 'ndtu_interval >= 0'),
            (config.ndtu_size_jump >= 1, 'ndtu_size_jump >= 1'),
            (
                0 <= config.thermal_low < config.thermal_high <= 100,
                '0 <= thermal_low < thermal_high <= 100',
            ),
            (0 <= config.size_smoothing < 1, '0 <= size_smoothing < 1'),
            (0 <= config.box_calibration <= 1, '0 <= box_calibration <= 1'),
            (0 <= config.thermal_smoothing < 1, '0 <= thermal_smoothing < 1'),
        )
        for holds, rule in rules:
            if not holds:
                given = ', '.join(f'{name}={value}' for name, value in changes.items())
                raise TpfError(f'{given} breaks the rule {rule}')
        return config
