"""
A running tracker as the source of a page: what it publishes, and how it is steered.

Its topics and services are found by the tracker's name, those of its cameras by what it says on
/diagnostics. The graph's callbacks run in the thread that spins the node; they keep what came, and
whoever looks takes the newest.
"""

import asyncio
from collections import deque
from collections.abc import Callable
import math
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterEvent
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_srvs.srv import Trigger
from tpf_tracker_ros.console.images import CAMERAS, Images
from tpf_tracker_ros.console.source import box_of, Shot, stamp_of
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.ros.conversion import nanoseconds
from tpf_tracker_ros.ros.messages import (
    best,
    Detection2D,
    Detection2DArray,
    to_box,
    to_detection,
    to_score,
)
from tpf_tracker_ros.ros.parameters import TABLE

TICK = 0.2  # s
HISTORY = 300  # ticks of the curves: a minute
SILENT = 3.0  # s without a word from the tracker, which diagnoses itself once a second
ASK_AGAIN = 2.0  # s
POLL = 0.05  # s
PATIENCE = 5.0  # s for an answer of the tracker
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
LEVELS = {
    DiagnosticStatus.OK: 'ok',
    DiagnosticStatus.WARN: 'warning',
    DiagnosticStatus.ERROR: 'error',
    DiagnosticStatus.STALE: 'stale',
}


class LiveTracker:
    """
    The tracker of this name as a Source.

    node: spun by somebody else. tracker: its name, relative ones in the node's namespace.
    """

    def __init__(self, node: Node, tracker: str = 'tpf_tracker') -> None:
        self.tracker = node.resolve_service_name(tracker)
        self._node = node
        self._changed: Callable[[], None] = lambda: None
        self._views: set[str] = set()
        self._values: dict[str, Any] = {name: row.default for name, row in TABLE.items()}
        self._asked_at = 0.0  # when its parameters were asked for
        self._answered = False
        self._heard_at = -math.inf
        self._status: dict[str, str] = {}
        self._state = self._identity = ''  # identity: of the target, '' without one
        self._health: dict[str, dict[str, Any]] = {}
        self._curves: deque[tuple] = deque(maxlen=HISTORY)
        self._images = Images(
            node, self._name('fused_image'), self._values, lambda: self._changed()
        )
        self._get = node.create_client(GetParameters, self._name('get_parameters'))
        self._set = node.create_client(SetParameters, self._name('set_parameters'))
        self._triggers = {
            name: node.create_client(Trigger, self._name(name)) for name in ('reset', 'stop')
        }
        self._target = node.create_publisher(Detection2D, self._name('target'), 10)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnosed, 10)
        node.create_subscription(DiagnosticArray, self._name('status'), self._told, 10)
        node.create_subscription(ParameterEvent, '/parameter_events', self._altered, 10)
        node.create_subscription(Detection2D, self._name('state'), self._became, LATCHED)
        node.create_subscription(Detection2DArray, self._name('tracks'), self._tracked, 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        node.create_timer(TICK, self._tick, clock=steady)

    def _name(self, name: str) -> str:
        return f'{self.tracker}/{name}'

    # ---- the server's side ----

    @property
    def shots(self) -> dict[str, Shot]:
        """Newest of each view."""
        return self._images.shots

    def attach(self, changed: Callable[[], None]) -> None:
        """See Source."""
        self._changed = changed

    def watch(self, views: set[str]) -> None:
        """See Source; the next tick subscribes."""
        self._views = views

    def describe(self) -> dict[str, Any]:
        """Return the table of live parameters and the curves so far."""
        rows = [
            {
                'name': row.name,
                'description': row.description,
                'allowed': row.allowed,
                'low': row.low if math.isfinite(row.low) else None,
                'high': row.high if math.isfinite(row.high) else None,
                'choices': row.choices,
                'kind': type(row.default).__name__,
            }
            for row in TABLE.values()
            if not row.read_only
        ]
        return {'mode': 'live', 'title': self.tracker, 'rows': rows, 'curves': list(self._curves)}

    def status(self) -> dict[str, Any]:
        """Return what is known of the tracker now."""
        alive, status = self._alive(), self._status
        active = self._diagnosis('message') not in ('inactive', 'unconfigured')
        views = [*self._cameras()]
        if views and self._fuses():  # a page that knew the fused image alone would show it
            views.append('fused')
        return {
            'alive': alive,
            'state': self._state if alive and active else '',
            'score': status.get('score', ''),
            'modality': status.get('modality', ''),
            'numbers': status,
            'health': list(self._health.values()),
            'views': views,
            'values': {n: v for n, v in self._values.items() if not TABLE[n].read_only},
            'curve': self._curves[-1] if self._curves else None,
        }

    async def command(self, name: str, message: dict[str, Any]) -> str:
        """Set a target, a parameter, reset or stop. Raises TpfError when it is refused."""
        if name == 'target':
            return await self._start(message)
        if name == 'set':
            return await self._set_parameter(message.get('name'), message.get('value'))
        if name in self._triggers:
            answer = await self._call(self._triggers[name], Trigger.Request())
            if not answer.success:
                raise TpfError(answer.message)
            return answer.message
        raise TpfError(f'{name[:40]!r} is no command of this page')

    async def _start(self, message: dict[str, Any]) -> str:
        box, stamp = box_of(message), stamp_of(message)
        if not self._target.get_subscription_count():
            raise TpfError(f'{self.tracker} does not listen for a target; is it active?')
        # Not by the parameter init_box, which would answer: a reset would start on that box again.
        target = to_detection(box, 1.0, _header(stamp), identity='', class_id='')
        before, problems = self._identity, self._problems()
        self._target.publish(target)
        when = f'in the frame at {stamp / 1e9:.3f} s' if stamp else 'in the next frame'
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while loop.time() < deadline:
            await asyncio.sleep(POLL)
            if self._identity not in ('', before):
                return f'target {self._identity} is set {when}'
            if self._problems() != problems:
                raise TpfError(self._diagnosis('message'))
        return f'the target is to be set {when}, which did not come yet'

    async def _set_parameter(self, name: Any, value: Any) -> str:
        row = TABLE.get(name) if isinstance(name, str) else None
        if row is None or row.read_only:
            raise TpfError(f'{str(name)[:40]!r} is no live parameter of the tracker')
        parameter = Parameter(name, value=row.accept(value)).to_parameter_msg()
        answer = await self._call(self._set, SetParameters.Request(parameters=[parameter]))
        result = answer.results[0]
        if not result.successful:
            raise TpfError(result.reason or f'{self.tracker} refuses {name}')
        return f'{name} is {value}'

    async def _call(self, client: Any, request: Any) -> Any:
        """Return a service's answer. Raises TpfError without one."""
        if not client.service_is_ready():
            raise TpfError(f'{self.tracker} is not there; start it, or look for its name')
        loop = asyncio.get_running_loop()
        answered: asyncio.Future = loop.create_future()

        def done(future: Any) -> None:
            loop.call_soon_threadsafe(
                lambda: answered.done() or answered.set_result(future.result())
            )

        future = client.call_async(request)
        future.add_done_callback(done)
        try:
            return await asyncio.wait_for(answered, PATIENCE)
        except asyncio.TimeoutError:
            client.remove_pending_request(future)
            raise TpfError(f'{client.srv_name} gave no answer in {PATIENCE:g} s') from None

    # ---- the graph's side ----

    def _tick(self) -> None:
        now, alive = time.perf_counter(), self._alive()
        if not alive:
            self._answered, self._state, self._identity = False, '', ''
        elif not self._answered and now - self._asked_at > ASK_AGAIN:
            self._ask_values()
        second = self._health.get('thermal', {}).get('values', {}).get('gives', 'thermal')
        self._images.update(self._cameras(), second, self._views)
        status = self._status if alive else {}
        latency, skew = (_numbers(status.get(key)) for key in ('total_ms', 'skew_ms'))
        score = _numbers(status.get('score'))
        moment = round(time.time(), 1)
        self._curves.append((moment, *((v[0] if v else None) for v in (score, latency, skew))))

    def _alive(self) -> bool:
        return time.perf_counter() - self._heard_at < SILENT

    def _fuses(self) -> bool:
        return self._alive() and self._node.count_publishers(self._name('fused_image')) > 0

    def _diagnosis(self, key: str) -> Any:
        """Return what the tracker says of itself on /diagnostics."""
        return self._health.get('tracker', {}).get(key, '')

    def _problems(self) -> str | None:
        """Return how many it has had."""
        return (self._diagnosis('values') or {}).get('problems')

    def _cameras(self) -> dict[str, str]:
        """'rgb' and 'thermal' -> topic, as far as the tracker has them."""
        found = {camera: self._health.get(camera) for camera in CAMERAS}
        return {name: each['values']['topic'] for name, each in found.items() if each}

    def _ask_values(self) -> None:
        if not self._get.service_is_ready():
            return
        self._asked_at = time.perf_counter()
        request = GetParameters.Request(names=list(TABLE))
        self._get.call_async(request).add_done_callback(self._take_values)

    def _take_values(self, future: Any) -> None:
        values = map(parameter_value_to_python, future.result().values)
        self._merge(dict(zip(TABLE, values)))
        self._answered = True

    def _altered(self, event: ParameterEvent) -> None:
        if event.node == self.tracker:
            changed = [*event.new_parameters, *event.changed_parameters]
            self._merge({each.name: parameter_value_to_python(each.value) for each in changed})

    def _merge(self, values: dict[str, Any]) -> None:
        known = {n: v for n, v in values.items() if n in TABLE and v is not None}
        self._values = {**self._values, **{n: _plain(v) for n, v in known.items()}}
        self._images.configure(self._values)

    def _diagnosed(self, message: DiagnosticArray) -> None:
        prefix = f'{self.tracker.lstrip("/")}: '
        ours = [status for status in message.status if status.name.startswith(prefix)]
        if not ours:
            return
        self._heard_at = time.perf_counter()
        self._health = {
            status.name.removeprefix(prefix): {
                'name': status.name.removeprefix(prefix),
                'level': LEVELS[status.level],
                'message': status.message,
                'values': {each.key: each.value for each in status.values},
            }
            for status in ours
        }

    def _told(self, message: DiagnosticArray) -> None:
        self._heard_at = time.perf_counter()
        status = message.status[0]
        self._status = {each.key: each.value for each in status.values}

    def _became(self, message: Detection2D) -> None:
        self._heard_at = time.perf_counter()
        self._state, self._identity = message.results[0].hypothesis.class_id, message.id

    def _tracked(self, message: Detection2DArray) -> None:
        detection = best(message)
        facts: dict[str, Any] = {'box': None}
        if detection:
            box = [round(float(value), 2) for value in to_box(detection)]
            facts = {'box': box, 'score': round(to_score(detection), 3)}
        self._images.tracked(nanoseconds(message.header.stamp), facts)


def _numbers(text: str | None) -> list[float]:
    """'p50 / p95 / p99', or one number, as numbers."""
    return [float(part) for part in text.split('/')] if text else []


def _plain(value: Any) -> Any:
    """Return arrays of a parameter as lists, which JSON knows."""
    return list(value) if hasattr(value, '__iter__') and not isinstance(value, str) else value


def _header(stamp: int | None) -> Any:
    from rclpy.time import Time
    from std_msgs.msg import Header

    return Header(stamp=Time(nanoseconds=stamp or 0).to_msg())
