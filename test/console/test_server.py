"""The server as a network client sees it: real requests, real sockets, a recording behind it."""

import asyncio
from contextlib import asynccontextmanager
import json
import struct

import cv2
import numpy as np
import pytest

aiohttp = pytest.importorskip('aiohttp', reason="needs pip install 'tpf_tracker_ros[console]'")
from tpf_tracker_ros.console.access import Access  # noqa: E402
from tpf_tracker_ros.console.ask import Frames  # noqa: E402
from tpf_tracker_ros.console.server import Console  # noqa: E402
from tpf_tracker_ros.core.frame_pair import FramePair  # noqa: E402


class Clip:
    """Ten frames of 1600x1200 px."""

    name, ground_truth = 'clip', None

    def __len__(self):
        return 10

    def __iter__(self):
        for index in range(10):
            rgb = np.full((1200, 1600, 3), 20 * index, np.uint8)
            yield FramePair(rgb, rgb[..., 0].astype(np.uint16) + 7000, index)


@asynccontextmanager
async def serving(address='127.0.0.1', **options):
    """Give the source, the address of the page, and a client."""
    source = Frames(Clip())
    access = Access(address)
    async with Console(source, access, **options).serving(address, 0) as url:
        url = url.partition('/?')[0].rstrip('/')
        port = url.rpartition(':')[2]
        base = f'http://127.0.0.1:{port}'
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of an IP address
        async with aiohttp.ClientSession(base, cookie_jar=jar) as client:
            source.access, source.base = access, base
            yield source, client


def connect(source, client, **headers):
    return client.ws_connect('/socket', headers={'Origin': source.base, **headers})


async def receive(socket, kind, timeout=5):
    """Return the next message of this type; 'image' for (facts, JPEG)."""
    while True:
        message = await socket.receive(timeout)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type is aiohttp.WSMsgType.BINARY:
            if kind == 'image':
                end = 4 + struct.unpack_from('>I', message.data)[0]
                return json.loads(message.data[4:end]), message.data[end:]
        elif (content := json.loads(message.data))['type'] == kind:
            return content


def served(test):
    """Run an asynchronous test."""

    def run():
        asyncio.run(asyncio.wait_for(test(), 30))

    run.__name__ = test.__name__
    return run


@served
async def test_three_files_are_served_and_nothing_else():
    async with serving() as (_, client):
        for path in ('/', '/console.css', '/console.js'):
            answer = await client.get(path)
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers['Content-Security-Policy']
            assert "frame-ancestors 'none'" in answer.headers['Content-Security-Policy']
            assert answer.headers['X-Content-Type-Options'] == 'nosniff'
        for path in ('/index.html', '/../server.py', '/%2e%2e/server.py', '/page/', '/static'):
            assert (await client.get(path)).status == 404, path


@served
async def test_a_foreign_host_and_a_foreign_origin_are_refused():
    async with serving() as (source, client):
        answer = await client.get('/', headers={'Host': 'evil.example'})
        assert answer.status == 403
        assert "'evil.example' is no name of this machine" in await answer.text()
        for origin in ('http://evil.example', 'null', ''):
            with pytest.raises(aiohttp.WSServerHandshakeError, match='403'):
                await connect(source, client, Origin=origin)
            answer = await client.post('/login', data={'token': 'x'}, headers={'Origin': origin})
            assert answer.status == 403


@served
async def test_another_address_asks_for_the_token():
    async with serving('0.0.0.0') as (source, client):
        assert (await client.get('/')).status == 401
        own = {'Origin': source.base}
        answer = await client.get('/socket?token=' + source.access.token, headers=own)
        assert answer.status == 401
        assert (await client.get('/console.css')).status == 200  # of the page that asks for it
        with pytest.raises(aiohttp.WSServerHandshakeError, match='401'):
            await connect(source, client)
        answer = await client.get('/?token=wrong')
        assert answer.status == 401
        assert 'not the token' in await answer.text()
        assert (await client.post('/login', data={'token': 'no'}, headers=own)).status == 401
        right = {'token': source.access.token}
        answer = await client.post('/login', data=right, headers=own)
        assert answer.status == 200  # after the redirection to /
        assert 'token' not in str(answer.url)
        async with connect(source, client) as socket:
            assert (await receive(socket, 'hello'))['title'] == 'clip'
        # Guessing is slow.
        statuses = [(await client.get('/?token=guess')).status for _ in range(8)]
        assert statuses[-1] == 429


@served
async def test_what_is_too_large_is_refused():
    async with serving('0.0.0.0') as (source, client):
        data, own = {'token': 'x' * 10_000}, {'Origin': source.base}
        assert (await client.post('/login', data=data, headers=own)).status == 413
    async with serving() as (source, client), connect(source, client) as socket:
        await socket.send_str('x' * 5000)
        while (message := await socket.receive(5)).type is not aiohttp.WSMsgType.CLOSE:
            pass
        assert message.data == 1009


@served
async def test_bad_messages_get_an_error_and_change_nothing():
    async with serving() as (source, client), connect(source, client) as socket:
        bad = [
            ('no json', 'JSON object'),
            ('[1, 2]', 'JSON object'),
            ('{}', 'JSON object'),
            ('[' * 2000, 'JSON object'),
            ({'type': 'watch', 'views': 'rgb'}, 'list of up to three'),
            ({'type': 'watch', 'views': [{}]}, 'list of up to three'),
            ({'type': 'fly'}, "'fly' is no command"),
            ({'type': 'step', 'by': 'far'}, 'no number of frames'),
            ({'type': 'target'}, 'not four numbers'),
            ({'type': 'target', 'box': [1, 2, 3], 'stamp': '0'}, 'not four numbers'),
            ({'type': 'target', 'box': [1, 2, True, 3], 'stamp': '0'}, 'not four numbers'),
            ('{"type": "target", "box": [1, 2, NaN, 4], "stamp": "0"}', 'not four numbers'),
            (f'{{"type": "target", "box": [{"9" * 400}, 2, 3, 4]}}', 'not four numbers'),
            ({'type': 'target', 'box': [1, 2, 3, 4], 'stamp': 0}, 'not that of an image'),
            ({'type': 'target', 'box': [1, 2, 3, 4], 'stamp': '7'}, 'another frame'),
            ({'type': 'target', 'box': [5000, 2, 3, 4], 'stamp': '0'}, 'outside'),
        ]
        for message, words in bad:
            text = message if isinstance(message, str) else json.dumps(message)
            await socket.send_str(text)
            answer = await receive(socket, 'answer')
            assert not answer['ok']
            assert words in answer['words'], answer
        await socket.send_bytes(b'\0')
        assert not (await receive(socket, 'answer'))['ok']
        assert not source.chosen.done()
        assert source.status()['frame'] == 0


@served
async def test_commands_and_messages_are_bounded_in_rate():
    async with serving() as (source, client), connect(source, client) as socket:
        for number in range(40):
            await socket.send_json({'type': 'step', 'by': 0, 'number': number})
        answers = [await receive(socket, 'answer') for _ in range(40)]
        assert [answer['to'] for answer in answers] == list(range(40))
        assert {answer['words'] for answer in answers if not answer['ok']} == {
            'too many commands; wait a second'
        }
        for _ in range(1000):
            await socket.send_json({'type': 'drawn', 'view': 'rgb'})
        while (message := await socket.receive(5)).type is not aiohttp.WSMsgType.CLOSE:
            pass
        assert (message.data, message.extra) == (1008, 'too many messages')


@served
async def test_one_page_too_many_is_told_so():
    async with serving(max_viewers=2) as (source, client):
        async with connect(source, client) as one, connect(source, client) as two:
            await receive(one, 'hello')
            await receive(two, 'hello')
            async with connect(source, client) as three:
                message = await three.receive(5)
                assert message.type is aiohttp.WSMsgType.CLOSE
                assert '2 pages are open already' in message.extra
        async with connect(source, client) as again:
            await receive(again, 'hello')


@served
async def test_images_are_made_small_and_newest_wins():
    async with serving() as (source, client), connect(source, client) as socket:
        await socket.send_json({'type': 'watch', 'views': ['rgb']})
        facts, jpeg = await receive(socket, 'image')
        assert (facts['stamp'], facts['width'], facts['height']) == ('0', 1600, 1200)
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (
            960,
            1280,
            3,
        )
        # The page draws nothing for a while: one more is on its way, the rest is passed over.
        for number in range(1, 9):
            await socket.send_json({'type': 'step', 'by': 1, 'number': number})
            await receive(socket, 'answer')
        await socket.send_json({'type': 'drawn', 'view': 'rgb'})
        await socket.send_json({'type': 'drawn', 'view': 'rgb'})
        late = [(await receive(socket, 'image'))[0]['stamp'] for _ in range(1)]
        assert late[-1] == '8'


@served
async def test_nothing_goes_out_while_nobody_looks():
    async with serving() as (source, client), connect(source, client) as socket:
        await receive(socket, 'status')
        await socket.send_json({'type': 'step', 'by': 1})
        await receive(socket, 'answer')
        await socket.send_json({'type': 'watch', 'views': []})
        with pytest.raises(asyncio.TimeoutError):
            await receive(socket, 'image', 0.5)
