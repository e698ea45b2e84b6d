"""One experiment is one TOML file; unknown keys and wrong types are refused."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, MISSING
from pathlib import Path
import sys
from typing import Any, get_args, get_origin, get_type_hints, TypeVar

from tpf_tracker_ros.core.errors import TpfError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Config = TypeVar('Config')


def read_config(
    path: Path, kind: type[Config], changes: Mapping[str, Any] | None = None
) -> Config:
    """
    Return the file as a dataclass of this kind; what it leaves out keeps its default.

    changes: keys to set to something else than the file does. Raises TpfError on a missing or
    broken file, an unknown key, a value of another type or a share beyond 0..1.
    """
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise TpfError(f'configuration {path} does not exist') from None
    except tomllib.TOMLDecodeError as error:
        raise TpfError(f'configuration {path} is not valid TOML: {error}') from None
    return _build({**table, **(changes or {})}, kind, str(path))


def at_least(config: Any, **least: int) -> None:
    """Raise TpfError where a number of a configuration is less than it must be."""
    for name, value in least.items():
        if getattr(config, name) < value:
            raise TpfError(f'{name} is {getattr(config, name)}; it must be at least {value}')


def _build(table: dict[str, Any], kind: type[Config], where: str) -> Config:
    types = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    values = {}
    for key, value in table.items():
        if key not in known:
            raise TpfError(f'{where}: unknown key {key!r}; known are {", ".join(known)}')
        wanted = types[key]
        if is_dataclass(wanted) and isinstance(value, dict):
            value = _build(value, wanted, f'{where} [{key}]')
        elif _holds_tables(wanted) and isinstance(value, list):
            value = [
                _build(each, get_args(wanted)[0], f'{where} [[{key}]] {count}')
                if isinstance(each, dict)
                else each
                for count, each in enumerate(value, 1)
            ]
        elif get_origin(wanted) is tuple and isinstance(value, list):
            value = tuple(float(each) if type(each) is int else each for each in value)
        elif wanted is float and type(value) is int:
            value = float(value)
        if not _fits(value, wanted):
            raise TpfError(
                f'{where}: {key} is {value!r}, of type {type(value).__name__}; '
                f'it must be of type {_title(wanted)}'
            )
        if key.endswith('share') and not 0 <= value <= 1:
            raise TpfError(f'{where}: {key} is {value}; a share lies in 0..1')
        values[key] = value
    for field in fields(kind):
        if field.name not in values and field.default is field.default_factory is MISSING:
            raise TpfError(f'{where}: {field.name} is missing and has no default; set it')
    try:
        return kind(**values)
    except TpfError as error:
        raise TpfError(f'{where}: {error}') from None


def _holds_tables(kind: type) -> bool:
    return get_origin(kind) is list and is_dataclass(get_args(kind)[0])


def _fits(value: Any, kind: type) -> bool:
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return type(value) is tuple and [type(each) for each in value] == list(kinds)
    if get_origin(kind) is list:
        return type(value) is list and all(type(each) is get_args(kind)[0] for each in value)
    return type(value) is kind


def _title(kind: type) -> str:
    if _holds_tables(kind):
        return 'list of tables, each under a heading in [[ ]]'
    return str(kind) if get_origin(kind) else kind.__name__
