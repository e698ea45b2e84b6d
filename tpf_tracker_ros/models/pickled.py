"""
Reads the tensors of a torch.save file without running anything that is pickled in it.

Published trackers pickle whole training states, with classes of their authors' code, so that
`torch.load(weights_only=True)` refuses them and a plain `torch.load` may run anything. Here only
tensors and plain containers come to life; whatever else a file names becomes an inert stub.
Both of torch's formats are read: the zip archive, and the stream of pickles before torch 1.6.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import io
import math
from pathlib import Path
import pickle
from typing import Any, BinaryIO
import zipfile

import torch
from torch import Tensor
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import substitute

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    count: int  # elements


@dataclass(frozen=True)
class LazyTensor:
    """A tensor whose numbers are still in the file: those of optimizers are never read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    read: Callable[[_Storage], bytearray]

    def load(self) -> Tensor:
        """Build the tensor. Raises ValueError or RuntimeError if it is not in its storage."""
        data = self.read(self.storage)
        expected = self.storage.count * self.storage.dtype.itemsize
        if len(data) != expected or math.prod(self.shape) > self.storage.count:
            raise ValueError(f'{len(data)} bytes for {expected} in storage {self.storage.key}')
        flat = torch.frombuffer(data, dtype=self.storage.dtype)
        return flat.as_strided(self.shape, self.strides, self.offset).clone()


class _Stub:
    """Stands for any other class or function: takes every call and keeps nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> '_Stub':
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, read: Callable[[_Storage], bytearray]) -> None:
        super().__init__(file, encoding='latin1')
        self.read = read
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        if module == 'torch' and name in _DTYPES:
            return _DTYPES[name]
        admitted = {
            ('collections', 'OrderedDict'): OrderedDict,
            ('torch', 'Size'): tuple,
            ('torch._utils', '_rebuild_tensor'): self._tensor,
            ('torch._utils', '_rebuild_tensor_v2'): self._tensor,
            ('torch._utils', '_rebuild_parameter'): self._parameter,
        }
        return admitted.get((module, name), _Stub)

    def persistent_load(self, saved: tuple) -> _Storage:
        _, dtype, key, _, count, *_ = saved
        if not isinstance(dtype, torch.dtype):
            raise ValueError('a storage of unknown type')
        return self.storages.setdefault(str(key), _Storage(str(key), dtype, int(count)))

    def _tensor(
        self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: object
    ) -> LazyTensor:
        return LazyTensor(storage, offset, tuple(shape), tuple(strides), self.read)

    def _parameter(self, data: LazyTensor, *_: object) -> LazyTensor:
        return data


@contextmanager
def open_pickled(path: Path) -> Iterator[Any]:
    """
    Return what torch.save wrote, with LazyTensors for tensors and stubs for foreign objects.

    Raises TpfError when the file is missing, truncated or none of torch.save, also where that
    shows only as a tensor is loaded inside the context.
    """
    try:
        with path.open('rb') as file:
            yield _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    except FileNotFoundError:
        raise TpfError(f'checkpoint {path} does not exist') from None
    except OSError as error:
        raise TpfError(f'checkpoint {path} cannot be read: {error}') from None
    except TpfError:
        raise
    except Exception as error:  # a broken pickle can raise anything
        raise TpfError(
            f'checkpoint {path} is damaged or not a file of torch.save '
            f'({type(error).__name__}: {error}); fetch it again{substitute(path)}'
        ) from None


def _read_zip(file: BinaryIO) -> Any:
    archive = zipfile.ZipFile(file)
    (pickled,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
    folder = pickled.removesuffix('data.pkl')

    def read(storage: _Storage) -> bytearray:
        return bytearray(archive.read(f'{folder}data/{storage.key}'))

    return _Unpickler(archive.open(pickled), read).load()


def _read_legacy(file: BinaryIO) -> Any:
    places: dict[str, tuple[int, int]] = {}  # start and length in bytes of each storage

    def read(storage: _Storage) -> bytearray:
        start, length = places[storage.key]
        file.seek(start)
        return bytearray(file.read(length))

    def load() -> tuple[Any, dict[str, _Storage]]:
        unpickler = _Unpickler(file, read)
        return unpickler.load(), unpickler.storages

    file.seek(0)
    if load()[0] != _LEGACY_MAGIC:
        raise ValueError('no magic number')
    load()  # the protocol's version
    load()  # the writer's byte order and sizes
    result, storages = load()
    keys, _ = load()
    for key in keys:  # the storages follow, each behind its number of elements
        length = int.from_bytes(file.read(8), 'little') * storages[key].dtype.itemsize
        places[key] = file.tell(), length
        file.seek(length, io.SEEK_CUR)
    return result
