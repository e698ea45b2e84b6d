"""Who may see and steer."""

import pytest
from tpf_tracker_ros.console.access import Access, is_loopback, Rate


@pytest.mark.parametrize('address', ['127.0.0.1', '127.8.8.8', '::1', 'localhost'])
def test_this_machine_needs_no_token(address):
    access = Access(address)
    assert is_loopback(address)
    assert access.token is None
    assert access.allows(None)


@pytest.mark.parametrize('address', ['0.0.0.0', '::', '192.168.1.5', 'robot.local'])
def test_any_other_address_does(address):
    access, other = Access(address), Access(address)
    assert access.allows(access.token)
    assert len(access.token) >= 20
    for wrong in (None, '', access.token[:-1], access.token + 'x', other.token, 'ü'):
        assert not access.allows(wrong)


def test_names_that_can_be_rebound_are_no_hosts():
    access = Access('0.0.0.0', hosts=('Robot.lan',))
    for host in ('127.0.0.1:8321', 'localhost', '[::1]:8321', '192.168.1.5', 'robot.lan:80'):
        assert access.knows_host(host), host
    for host in (
        None,
        '',
        'evil.example',
        '127.0.0.1.evil.example:8321',
        'localhost.evil.example',
    ):
        assert not access.knows_host(host), host


def test_an_origin_is_that_of_the_page_itself():
    access = Access('127.0.0.1')
    assert access.is_own_origin('http://127.0.0.1:8321', '127.0.0.1:8321')
    for origin in (None, 'null', 'http://127.0.0.1:9000', 'http://evil.example', ''):
        assert not access.is_own_origin(origin, '127.0.0.1:8321'), origin
    assert not access.is_own_origin('http://None', None)


def test_a_rate_allows_a_burst_and_then_its_pace(monkeypatch):
    now = 100.0
    monkeypatch.setattr('time.monotonic', lambda: now)
    rate = Rate(3, 2)
    assert [rate.take() for _ in range(5)] == [True, True, True, False, False]
    now += 1.0
    assert [rate.take() for _ in range(3)] == [True, True, False]
    now += 1000.0
    assert sum(rate.take() for _ in range(9)) == 3
