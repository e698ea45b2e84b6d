"""
Who may see and steer: the name of the host, the origin of a page, the token, and how often.

On a loopback address no token is needed, so what must be kept out are other pages of the user's
browser: they have another Origin, and a name that was rebound to 127.0.0.1 is no Host of ours.
"""

import hmac
import ipaddress
import secrets
import socket
import time
from urllib.parse import urlsplit

COOKIE = 'tpf_console'


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a server that is bound to the address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == 'localhost'


class Access:
    """
    The rules of one server.

    address: what it is bound to. hosts: further names of this machine. token: what a viewer must
    show, made anew; None where the address is that of this machine alone.
    """

    def __init__(self, address: str, *, hosts: tuple[str, ...] = ()) -> None:
        self.token = None if is_loopback(address) else secrets.token_urlsafe(16)
        name = socket.gethostname().lower()
        self._hosts = {'localhost', name, f'{name}.local', *map(str.lower, hosts)}

    def knows_host(self, host: str | None) -> bool:
        """
        Whether a Host header names this machine: by a number, or by one of its names.

        Names that an attacker makes resolve to this machine (DNS rebinding) are not known; numbers
        cannot be rebound.
        """
        name = (urlsplit(f'//{host}').hostname or '') if host else ''
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def is_own_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a request comes from a page of this server; browsers always say."""
        return bool(host) and origin in (f'http://{host}', f'https://{host}')

    def allows(self, token: str | None) -> bool:
        """Whether this token lets in; takes the same time for every wrong one."""
        given = (token or '').encode(errors='replace')
        return self.token is None or hmac.compare_digest(given, self.token.encode())


class Rate:
    """A bound on how often: so many at once, refilled at so many a second."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst, self._per_second = burst, per_second
        self._left, self._since = burst, time.monotonic()

    def take(self) -> bool:
        """Count one; whether it is within the bound."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._since) * self._per_second)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
