"""Write images, boxes and camera information to one mcap file that any ROS 2 tool opens."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import cv2
import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter
from tpf_tracker_ros.bags.mcap_records import close_at_cut
from tpf_tracker_ros.bags.typestore import typestore
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import remove, writing
from tpf_tracker_ros.core.image_encoding import encoding_of

COMPRESSIONS = ('jpeg', 'png')
TARGET = 'target'  # id of every box


class _FileWriter(Writer):
    """rosbags' writer without its folder: one mcap file, which holds its metadata itself."""

    def open(self) -> None:  # noqa: A003
        with TemporaryDirectory(dir=self.path.parent) as folder:
            self.storage = McapWriter(Path(folder), CompressionMode.NONE)
            self.storage.path = self.storage.path.rename(self.path)

    def close(self) -> None:
        with TemporaryDirectory() as folder:
            self.metapath = Path(folder) / 'metadata.yaml'
            super().close()


class BagWriter:
    """
    A context manager that writes one mcap file.

    path: the file; its folder is made. An existing file is refused unless overwrite is set.

    The file is closed properly on every way out, exceptions included. When the disk is full it
    is cut behind the last whole chunk (1 MiB) and stays readable. stamps are integer ns; they
    become the header's stamp and the bag's time. Raises TpfError.
    """

    def __init__(self, path: Path | str, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        if self.path.exists() and not (overwrite and self.path.is_file()):
            raise TpfError(f'{path} exists already; give another name or remove it first')
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> 'BagWriter':
        remove(self.path)
        self._writer = _FileWriter(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer.storage is None:  # rescued already
            return
        try:
            self._writer.close()
        except OSError as failure:
            self._rescue(failure)

    def write_image(
        self,
        topic: str,
        image: np.ndarray,
        stamp: int,
        *,
        frame_id: str,
        compression: str | None = None,
    ) -> None:
        """
        Write a sensor_msgs/Image, or on topic/compressed a CompressedImage.

        image: uint8 (H, W, 3) RGB, or (H, W) uint8, uint16 (png only) or float32 (raw only).
        compression: None, 'jpeg' or 'png'.
        """
        encoding = encoding_of(image)
        types = typestore().types
        header = self._header(stamp, frame_id)
        if compression is not None:
            message = types['sensor_msgs/msg/CompressedImage'](
                header, *_compress(image, encoding, compression)
            )
            self.write(f'{topic}/compressed', message, stamp)
            return
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(image).astype(image.dtype.newbyteorder('<'), copy=False)
        message = types['sensor_msgs/msg/Image'](
            header=header,
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=pixels.reshape(-1).view(np.uint8),
        )
        self.write(topic, message, stamp)

    def write_box(self, topic: str, box: np.ndarray | None, stamp: int, *, frame_id: str) -> None:
        """Write a vision_msgs/Detection2DArray with this box (x, y, w, h px), or with none."""
        types = typestore().types
        header = self._header(stamp, frame_id)
        detections = []
        if box is not None and np.isfinite(box).all():
            detections.append(_detection(header, box))
        self.write(topic, types['vision_msgs/msg/Detection2DArray'](header, detections), stamp)

    def write_camera_info(
        self,
        topic: str,
        size: tuple[int, int],
        stamp: int,
        *,
        frame_id: str,
    ) -> None:
        """Write the sensor_msgs/CameraInfo of an uncalibrated camera of this (width, height)."""
        types = typestore().types
        width, height = size
        message = types['sensor_msgs/msg/CameraInfo'](
            header=self._header(stamp, frame_id),
            height=height,
            width=width,
            distortion_model='',
            d=np.zeros(0),
            k=np.zeros(9),  # ROS's word for it
            r=np.eye(3).ravel(),
            p=np.zeros(12),
            binning_x=0,
            binning_y=0,
            roi=types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False),
        )
        self.write(topic, message, stamp)

    def write(self, topic: str, message: object, stamp: int) -> None:
        """Write any message made from this typestore; stamp is the bag's time in ns."""
        kind = message.__msgtype__
        self.write_serialized(topic, kind, typestore().serialize_cdr(message, kind), stamp)

    def write_serialized(
        self, topic: str, kind: str, data: bytes | memoryview, stamp: int
    ) -> None:
        """Write a message as it came over the wire: CDR of a type of the typestore."""
        try:
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic, kind, typestore=typestore()
                )
            self._writer.write(self._connections[topic], stamp, data)
        except OSError as failure:
            self._rescue(failure)

    def _rescue(self, failure: OSError) -> None:
        with suppress(OSError):  # the buffer cannot be flushed either
            self._writer.abort()
        close_at_cut(self.path)
        raise TpfError(
            f'cannot write {self.path}: {failure.strerror}; what it holds so far stays readable'
        ) from failure

    @staticmethod
    def _header(stamp: int, frame_id: str) -> object:
        types = typestore().types
        return types['std_msgs/msg/Header'](
            types['builtin_interfaces/msg/Time'](*divmod(stamp, 10**9)), frame_id
        )


def _compress(image: np.ndarray, encoding: str, compression: str) -> tuple[str, np.ndarray]:
    """Format as compressed_image_transport writes it, and the file's bytes (N,)."""
    if compression not in COMPRESSIONS:
        raise TpfError(f'compression {compression!r} is unknown; choose jpeg or png')
    if encoding == '32FC1' or (encoding == 'mono16' and compression == 'jpeg'):
        way_out = 'write it uncompressed' if encoding == '32FC1' else 'use png'
        raise TpfError(f'{compression} cannot hold {encoding} images; {way_out}')
    colour = encoding == 'rgb8'
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if colour else image
    data = cv2.imencode(f'.{compression}', pixels)[1]
    return f'{encoding}; {compression} compressed {"bgr8" if colour else ""}', data


def _detection(header: object, box: np.ndarray) -> object:
    """Return a Detection2D: centre and size, one hypothesis, pose unused."""
    types = typestore().types
    x, y, w, h = (float(value) for value in box)
    point = types['vision_msgs/msg/Point2D'](x + w / 2, y + h / 2)
    centre = types['vision_msgs/msg/Pose2D'](point, 0.0)
    pose = types['geometry_msgs/msg/Pose'](
        types['geometry_msgs/msg/Point'](0.0, 0.0, 0.0),
        types['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0),
    )
    result = types['vision_msgs/msg/ObjectHypothesisWithPose'](
        types['vision_msgs/msg/ObjectHypothesis'](TARGET, 1.0),
        types['geometry_msgs/msg/PoseWithCovariance'](pose, np.zeros(36)),
    )
    bbox = types['vision_msgs/msg/BoundingBox2D'](centre, w, h)
    return types['vision_msgs/msg/Detection2D'](header, [result], bbox, TARGET)
