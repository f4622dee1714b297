"""The address that a server listens on."""

from __future__ import annotations

import ipaddress
import socket

from quoth.system.errors import InputError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name that a server listens on."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Open a socket on an address that nobody else listens on; port 0 takes a free one.

    Raises:
        InputError: the address is taken, or is none of this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
        return listener
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        said = f"{host} port {port} cannot be listened on: {why}; choose another --port or --host."
        raise InputError(said) from error


def url_of(listener: socket.socket) -> str:
    """The address under which a browser on this machine reaches a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
