"""The HTTP server: three files of the package, a socket for each page, and a way to log in."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
import socket
from urllib.parse import quote

from aiohttp import web
from tpf_tracker_ros.console.access import Access, COOKIE, Rate
from tpf_tracker_ros.console.source import Source
from tpf_tracker_ros.console.viewer import Viewer
from tpf_tracker_ros.core.errors import TpfError

ADDRESS, PORT = '127.0.0.1', 8321
MAX_VIEWERS = 8
MAX_MESSAGE = 4096  # bytes that a page may send at once
PAGE = files('tpf_tracker_ros.console') / 'page'
FILES = {
    '/': ('index.html', 'text/html'),
    '/console.css': ('console.css', 'text/css'),
    '/console.js': ('console.js', 'text/javascript'),
}
PROTECTED = ('/', '/socket')  # the rest is the same for everybody
HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'same-origin',  # with none at all, the login's Origin would be null
    'Cache-Control': 'no-store',
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Console:
    """
    The pages of one source.

    max_viewers: pages open at a time; one more is told so and closed.
    """

    def __init__(self, source: Source, access: Access, *, max_viewers: int = MAX_VIEWERS) -> None:
        self._source, self._access, self._max_viewers = source, access, max_viewers
        self._viewers: set[Viewer] = set()
        self._logins = Rate(5, 1)
        # One thread: encoding takes what tracking leaves over, never a second core.
        self._encoder = ThreadPoolExecutor(1, 'encode')
        self._app = web.Application(middlewares=[self._guard], client_max_size=MAX_MESSAGE)
        self._app.add_routes(
            [
                *(web.get(path, self._file) for path in FILES),
                web.get('/socket', self._socket),
                web.post('/login', self._login),
            ]
        )

    @asynccontextmanager
    async def serving(self, address: str = ADDRESS, port: int = PORT) -> AsyncIterator[str]:
        """Serve until the block ends; gives the page's address. Raises TpfError."""
        loop = asyncio.get_running_loop()
        self._source.attach(lambda: call_soon(loop, self._wake))
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, address, port)
            try:
                await site.start()
            except OSError as error:
                raise TpfError(
                    f'the console cannot listen on {address}, port {port}: {error.strerror}; '
                    'give another address or port'
                ) from error
            yield self._url(*runner.addresses[0][:2])
        finally:
            await runner.cleanup()
            self._encoder.shutdown(cancel_futures=True)

    def _url(self, address: str, port: int) -> str:
        host = socket.gethostname() if address in ('0.0.0.0', '::') else address
        host = f'[{host}]' if ':' in host else host
        token = self._access.token
        return f'http://{host}:{port}/' + (f'?token={quote(token)}' if token else '')

    def _wake(self) -> None:
        for viewer in self._viewers:
            viewer.wake()

    def _rewatch(self) -> None:
        self._source.watch(set().union(*(viewer.views for viewer in self._viewers)))

    # ---- requests ----

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Host for all, Origin for what can change something, the token for page and socket."""
        host, origin = request.headers.get('Host'), request.headers.get('Origin')
        if not self._access.knows_host(host):
            refusal = f'{host!r} is no name of this machine; open the page by its IP address, '
            return _refusal(403, refusal + "or add the name to the console's parameter hosts")
        changing = request.method != 'GET' or request.path == '/socket'
        if changing and not self._access.is_own_origin(origin, host):
            return _refusal(403, f'a page of {origin} may not steer this tracker')
        if request.path == '/login' or (request.path == '/' and 'token' in request.query):
            if not self._logins.take():
                return _refusal(429, 'too many attempts; wait a second')
        elif request.path in PROTECTED and not self._access.allows(request.cookies.get(COOKIE)):
            return _page('login.html', 'text/html', status=401)
        response = await handler(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if request.path == '/' and 'token' in request.query:  # then keep it out of the address
            return self._let_in(request.query['token'])
        return _page(*FILES[request.path])

    async def _login(self, request: web.Request) -> web.StreamResponse:
        return self._let_in(str((await request.post()).get('token', '')))

    def _let_in(self, token: str) -> web.StreamResponse:
        if not self._access.allows(token.strip()):
            return _page('login.html', 'text/html', status=401, wrong=True)
        response = web.Response(status=303, headers={'Location': '/', **HEADERS})
        if self._access.token:
            response.set_cookie(COOKIE, self._access.token, httponly=True, samesite='Strict')
        return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(heartbeat=10.0, max_msg_size=MAX_MESSAGE, compress=False)
        await response.prepare(request)
        if len(self._viewers) >= self._max_viewers:
            words = f'{self._max_viewers} pages are open already; close one'
            await response.close(code=1013, message=words.encode())
            return response
        viewer = Viewer(response, self._source, self._encoder, self._rewatch)
        self._viewers.add(viewer)
        try:
            await viewer.run()
        finally:
            self._viewers.remove(viewer)
            self._rewatch()
        return response


def call_soon(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    """Call it in a loop of another thread, unless that has ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(action)


def _page(name: str, kind: str, *, status: int = 200, wrong: bool = False) -> web.Response:
    text = (PAGE / name).read_text()
    if not wrong:
        text = text.replace('class="wrong"', 'class="wrong" hidden')
    return web.Response(text=text, content_type=kind, status=status, headers=HEADERS)


def _refusal(status: int, words: str) -> web.Response:
    return web.Response(status=status, text=f'{words}\n', headers=HEADERS)
