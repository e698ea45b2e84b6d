"""Pairing of messages by message_filters, for who wants it instead of ours."""

from collections.abc import Callable
import importlib.util
from typing import Any

from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.pairing import FramePairer, JUMP_NS, Paired, STREAMS
from tpf_tracker_ros.ros.conversion import nanoseconds


class Filter:
    """The interface of message_filters.SimpleFilter: callbacks that get each message."""

    def __init__(self) -> None:
        self.callbacks: list[tuple[Callable[..., None], tuple]] = []

    def registerCallback(self, callback: Callable[..., None], *args: Any) -> int:
        """Call it with each message of this filter, then args; returns the connection."""
        self.callbacks.append((callback, args))
        return len(self.callbacks) - 1

    def signalMessage(self, *messages: Any) -> None:
        """Hand messages to all callbacks."""
        for callback, args in self.callbacks:
            callback(*messages, *args)


class UpstreamPairer(FramePairer):
    """
    The ApproximateTimeSynchronizer of message_filters behind the interface of FramePairer.

    Its faults stay (no single frames when a camera is dead, wide slop shifts pairs), but for one:
    it starts anew after a backward jump, after which it would never pair again. Payloads need a
    header. Raises TpfError where message_filters is not installed.
    """

    def __init__(self, **options: Any) -> None:
        if not importlib.util.find_spec('message_filters'):
            raise TpfError(
                'sync is message_filters, which is not installed; '
                'install ros-$ROS_DISTRO-message-filters or set sync to nearest'
            )
        super().__init__(**options)

    def configure(self, **settings: int) -> None:
        """Raise TpfError on an offset: theirs has none."""
        if settings['rgb_offset_ns'] or settings['thermal_offset_ns']:
            raise TpfError('sync is message_filters, which has no offsets; set sync to nearest')
        super().configure(**settings)
        self._connect()

    def _connect(self) -> None:
        from message_filters import ApproximateTimeSynchronizer

        self._inputs = {stream: Filter() for stream in STREAMS}
        self._latest = dict.fromkeys(STREAMS, 0)
        self._complete: list[tuple[Any, Any]] = []
        synchronizer = ApproximateTimeSynchronizer(
            list(self._inputs.values()), self.depth, self.slop_ns / 1e9
        )
        synchronizer.registerCallback(lambda *pair: self._complete.append(pair))

    def add(
        self, stream: str, stamp_ns: int, payload: Any, *, arrival_ns: int | None = None
    ) -> list[Paired]:
        """Take one frame; returns the pair that it completes. Its stamp counts, whatever it is."""
        if self.mode != 'rgb+thermal':
            return super().add(stream, stamp_ns, payload, arrival_ns=arrival_ns)
        if stamp_ns < self._latest[stream] - JUMP_NS:
            self._connect()
            self.epoch += 1
        self._latest[stream] = stamp_ns
        self._inputs[stream].signalMessage(payload)
        complete, self._complete[:] = self._complete[:], []
        return [self._pair(*frames) for frames in complete]

    def _pair(self, rgb: Any, thermal: Any) -> Paired:
        stamps = [nanoseconds(frame.header.stamp) for frame in (rgb, thermal)]
        self.paired += 1
        self.skews.append(stamps[1] - stamps[0])
        return Paired(rgb, thermal, stamps[0], self.skews[-1], self.epoch)
