"""
The node's parameters: one table, of which the YAML, docs/ros.md and the node are made.

`python -m tpf_tracker_ros.ros.parameters` prints it as config/tracker.yaml, with `--markdown` as
the table of docs/ros.md. Load-time things are read-only; thresholds and policies change live.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, Field
import difflib
import math
import textwrap
from typing import Any, TYPE_CHECKING

from tpf_tracker_ros.core.boxes import parse_target
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.pairing import MODES, POLICIES
from tpf_tracker_ros.core.registration import check_homography
from tpf_tracker_ros.tracking.config import DEFAULT_MODEL, SETTINGS, TrackerConfig
from tpf_tracker_ros.tracking.config import RENAMED as RENAMED_SETTINGS

if TYPE_CHECKING:
    from rclpy.node import Node

Value = bool | int | float | str | list[float]
TRACKER = 'tracker.'  # prefix of the settings of TrackerConfig


@dataclass(frozen=True)
class Parameter:
    """
    One row of the table; the type is that of the default.

    low, high: inclusive range of a number (inf where open). choices: what a string may be.
    """

    name: str
    default: Value
    description: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    read_only: bool = True

    @property
    def allowed(self) -> str:
        """Return the range or the choices in words; empty where anything goes."""
        if self.choices:
            return ', '.join(self.choices)
        if math.isinf(self.low) and math.isinf(self.high):
            return ''
        return f'{self.low:g} to {self.high:g}' if math.isfinite(self.high) else f'>= {self.low:g}'

    def parse(self, text: str) -> Value:
        """Return the value of a launch argument, which is YAML. Raises TpfError."""
        import yaml

        try:
            return self.accept(text if isinstance(self.default, str) else yaml.safe_load(text))
        except yaml.YAMLError:
            return self.accept(text)  # which says what it must be

    def accept(self, value: Any) -> Value:
        """Give the value in the type of the default. Raises TpfError on a wrong type or value."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(self.default, list):
            several = hasattr(value, '__iter__') and not isinstance(value, str)
            value = list(value) if several else [value]
            fits = len(value) == len(self.default) and all(
                isinstance(v, int | float) and math.isfinite(v) for v in value
            )
            value = [float(v) for v in value] if fits else value
            kind = f'{len(self.default)} finite numbers'
        elif isinstance(self.default, float):
            fits, kind = number and math.isfinite(value), 'a number'
            value = float(value) if fits else value
        else:
            fits = type(value) is type(self.default)
            kind = {bool: 'true or false', int: 'a whole number', str: 'a string'}[
                type(self.default)
            ]
        if not fits:
            raise TpfError(f'parameter {self.name} is {value!r}; it must be {kind}')
        outside = number and not self.low <= value <= self.high
        if outside or (self.choices and value not in self.choices):
            raise TpfError(f'parameter {self.name} is {value!r}; it must be {self.allowed}')
        return value


def _live(name: str, default: Value, description: str, **more: Any) -> Parameter:
    return Parameter(name, default, description, read_only=False, **more)


def _tracker(setting: Field) -> Parameter:
    meaning, low, high, choices = setting.metadata['allowed']
    number = type(setting.default) in (int, float)
    return Parameter(
        TRACKER + setting.name,
        setting.default,
        meaning,
        low=low if number else -math.inf,
        high=high if number else math.inf,
        choices=choices,
        read_only=setting.name == 'policy',
    )


TABLE = {
    row.name: row
    for row in (
        Parameter('model', DEFAULT_MODEL, 'tracker to load; `tpf models` lists them'),
        Parameter('checkpoint', '', 'file or folder of tpf export; empty: the packaged weights'),
        Parameter('device', 'auto', 'auto, cpu, cuda or cuda:N; a GPU tracks in half precision'),
        Parameter('autostart', True, 'configure and activate without a lifecycle manager'),
        Parameter('mode', 'rgb+thermal', 'cameras to use', choices=MODES),
        _live(
            'init_box',
            '',
            'x,y,w,h in px, or x,y,w,h@seconds (a stamp): start on this box in the first pair, '
            'and at once where it is set later; empty: wait for ~/target',
        ),
        Parameter('class_id', 'target', 'class_id of the published detections'),
        Parameter(
            'rgb_transport', 'raw', 'image transport of the RGB camera',
            choices=('raw', 'compressed'),
        ),
        Parameter(
            'thermal_transport', 'raw', 'image transport of the thermal camera',
            choices=('raw', 'compressed', 'compressedDepth'),
        ),
        Parameter('subscription_depth', 5, 'images the middleware keeps', low=1, high=100),
        Parameter(
            'sync', 'nearest',
            'pairing by our nearest neighbour or by the synchronizer of message_filters',
            choices=('nearest', 'message_filters'),
        ),
        Parameter(
            'pairing', 'nearest',
            'nearest: images that lie nearest in time; hold: each RGB image with the newest '
            'thermal one, for thermal cameras slower than the RGB one',
            choices=POLICIES,
        ),
        _live(
            'hold_ms', 250.0, 'with hold: oldest thermal image to use', low=1, high=10_000,
        ),
        Parameter('queue_depth', 16, 'frames that wait for a partner', low=2, high=500),
        _live('slop_ms', 15.0, 'largest time between the images of a pair', low=0, high=10_000),
        _live('rgb_offset_ms', 0.0, 'added to RGB stamps for pairing', low=-1e13, high=1e13),
        _live('thermal_offset_ms', 0.0, 'added to thermal ones', low=-1e13, high=1e13),
        _live(
            'camera_timeout_ms', 300.0,
            'a camera so far behind the other (1.5 periods, if longer) is dead: go on with '
            'the other', low=1, high=1e6,
        ),
        _live(
            'stall_timeout_ms', 1500.0,
            'no pair finished for so long (2 periods of a camera or 3 steps of the tracker, if '
            'longer) while images should come: an error', low=100, high=1e6,
        ),
        Parameter(
            'target_history_mb', 64.0,
            'MB of pairs as they came that are kept, so that ~/target may name a past frame',
            low=0, high=100_000,
        ),
        Parameter(
            'registration.method',
            'homography',
            'thermal to RGB by homography; by the K of both camera_info, translation, rotation '
            'and plane_distance (calibration); or by their K, R, P and plane_distance',
            choices=('homography', 'calibration', 'camera_info'),
        ),
        _live(
            'registration.homography',
            [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            'row by row, thermal px to RGB px; identity: the images are registered already',
        ),
        _live(
            'registration.translation', [0.0, 0.0, 0.0],
            'm, origin of the thermal camera in the RGB camera (x right, y down, z forward)',
        ),
        _live(
            'registration.rotation', [0.0, 0.0, 0.0],
            'rad, roll, pitch, yaw (about x, y, z) of the thermal camera in the RGB camera',
        ),
        _live(
            'registration.plane_distance', 0.0,
            'm from the thermal camera to the plane on which the images coincide; 0: far away',
            low=0, high=1e6,
        ),
        _live('status_rate', 5.0, 'Hz of ~/status', low=0.1, high=100),
        *map(_tracker, SETTINGS.values()),
    )
}  # fmt: skip

OF_ROS = 'use_sim_time', 'start_type_description_service'  # every node has these
# Old names, which are refused: what each is called now.
RENAMED = {
    'target_history': 'target_history_mb, in MB instead of pairs',
    'frozen_ms': 'tracker.frozen_ms',
    **{TRACKER + old: TRACKER + new for old, new in RENAMED_SETTINGS.items()},
}


def check(values: dict[str, Value], given: Iterable[str] = ()) -> None:
    """
    Rules between and beyond single values.

    Raises TpfError; a broken rule of the tracker's settings names those that were given alone.
    """
    if values['init_box']:
        parse_target(values['init_box'])
    if values['pairing'] == 'hold' and values['sync'] != 'nearest':
        raise TpfError('pairing is hold, which needs sync: nearest')
    if values['pairing'] == 'hold' and 0 < values['tracker.frozen_ms'] <= values['hold_ms']:
        raise TpfError(
            f'hold_ms is {values["hold_ms"]:g}: an image that is held so long looks frozen; set '
            'tracker.frozen_ms higher than that, or to 0'
        )
    check_homography(values['registration.homography'])
    named = tracker_settings({name: values[name] for name in given if name in TABLE})
    TrackerConfig(**tracker_settings(values)).changed(**named)


def tracker_settings(values: dict[str, Value]) -> dict[str, Value]:
    """Return the settings for the tracker's configure, by their names there."""
    return {
        name.removeprefix(TRACKER): value
        for name, value in values.items()
        if name.startswith(TRACKER)
    }


def start_values(
    node: 'Node', table: Mapping[str, Parameter] = TABLE
) -> tuple[dict[str, Value], set[str]]:
    """
    Return the values of all parameters of a table at the start, and the names of those given.

    The node must have been made with automatically_declare_parameters_from_overrides=True: that
    is the public way to see overrides that the table does not know.
    Raises TpfError on an unknown or an old name, a wrong type or a value out of range.
    """
    given = {name: p.value for name, p in node.get_parameters_by_prefix('').items()}
    for name in given:
        if name in RENAMED:
            raise TpfError(f'parameter {name!r} is now called {RENAMED[name]}')
        if name not in table and name not in OF_ROS and not name.startswith('qos_overrides.'):
            (near,) = difflib.get_close_matches(name, table, n=1, cutoff=0)
            every = ', '.join(table)
            if table is TABLE:
                every = 'python -m tpf_tracker_ros.ros.parameters'
            raise TpfError(f'unknown parameter {name!r}; did you mean {near!r}? All: {every}')
    values = {name: row.accept(given.get(name, row.default)) for name, row in table.items()}
    return values, given.keys() & table.keys()


def enter(node: 'Node', table: Mapping[str, Parameter], values: Mapping[str, Value]) -> None:
    """Declare a table on a node for which start_values has read it."""
    for name, row in table.items():
        if node.has_parameter(name):
            node.undeclare_parameter(name)
        node.declare_parameter(name, values[name], _descriptor(row), ignore_override=True)


def declare(
    node: 'Node',
    changed: Callable[[dict[str, Value], set[str]], None],
    validate_more: Callable[[dict[str, Value]], None] = lambda given: None,
) -> dict[str, Value]:
    """
    Declare the table on a node and return all values by name.

    The node must be one for start_values. changed is called with all values after each live
    change that passed the checks.
    Raises TpfError on an unknown or an old name, a wrong type or a value out of range.
    """
    from rcl_interfaces.msg import SetParametersResult

    values, given = start_values(node)
    values |= _model_settings(values['model'], {name: values[name] for name in given})
    check(values, given)
    enter(node, TABLE, values)

    def accept(parameters: list) -> dict[str, Value]:
        return {p.name: TABLE[p.name].accept(p.value) for p in parameters if p.name in TABLE}

    def widen(parameters: list) -> list:
        """Whole numbers are numbers, too: `ros2 param set … slop_ms 20`, `… [1,0,0]`."""
        return [type(p)(p.name, value=_widened(p.name, p.value)) for p in parameters]

    def validate(parameters: list) -> SetParametersResult:
        try:
            given = accept(parameters)
            check({**values, **given}, given)
            validate_more(given)
        except TpfError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def apply(parameters: list) -> None:
        if given := accept(parameters):
            values.update(given)
            changed(values, set(given))

    node.add_pre_set_parameters_callback(widen)
    node.add_on_set_parameters_callback(validate)
    node.add_post_set_parameters_callback(apply)
    return values


def _widened(name: str, value: Any) -> Any:
    """Return whole numbers as floats where the table has floats."""
    default = TABLE[name].default if name in TABLE else None
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, list) and all(type(v) is int for v in value or ['']):
        return [float(v) for v in value]
    return value


def _model_settings(model: str, given: dict[str, Value]) -> dict[str, Value]:
    """Return all settings of the tracker: those that were given, on top of the model's own."""
    from tpf_tracker_ros.tracking.load import model_settings  # loads torch

    try:
        config = model_settings(model, **tracker_settings(given))
    except TpfError:
        return {}  # the check or the loading says what is wrong
    return {TRACKER + name: value for name, value in asdict(config).items()}


def _descriptor(row: Parameter) -> Any:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(
        description=row.description, additional_constraints=row.allowed, read_only=row.read_only
    )
    if math.isfinite(row.low) and isinstance(row.default, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(row.low), to_value=float(row.high))
        ]
    elif math.isfinite(row.low) and isinstance(row.default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(row.low), to_value=int(row.high))]
    return descriptor


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else str(value)


def as_yaml() -> str:
    """
    Return the table as a parameter file: every name with its default, meaning and range.

    The tracker's settings stand in comments: a model may have defaults of its own.
    """
    lines = ['/**/tpf_tracker:', '  ros__parameters:']  # in any namespace
    group = ''
    for row in TABLE.values():
        prefix, _, name = row.name.rpartition('.')
        hidden = '# ' if row.name.startswith(TRACKER) else ''
        if prefix != group:
            lines += [f'    {hidden}{prefix}:'] if prefix else []
            group = prefix
        indent = '      ' if prefix else '    '
        notes = [row.description, row.allowed, '' if row.read_only else 'live']
        note = '; '.join(filter(None, notes))
        lines += textwrap.wrap(
            note, 95, initial_indent=indent + '# ', subsequent_indent=indent + '# '
        )
        lines.append(f'{indent}{hidden}{name}: {_literal(row.default)}')
    return '\n'.join(lines) + '\n'


def as_markdown() -> str:
    """Return the table for docs/ros.md."""
    lines = ['| parameter | default | meaning | allowed | live |', '|---|---|---|---|---|']
    for row in TABLE.values():
        live = '' if row.read_only else 'yes'
        lines.append(
            f'| `{row.name}` | `{_literal(row.default)}` | {row.description} | '
            f'{row.allowed} | {live} |'
        )
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    import sys

    print(as_markdown() if '--markdown' in sys.argv else as_yaml(), end='')
