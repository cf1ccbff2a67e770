"""Where a router worker listens: the released function, on real sockets."""

import socket
import struct
from types import SimpleNamespace

import pytest
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

from crossbar_cluster.control import reader, router_worker

HOST = "127.0.0.1"


@pytest.fixture
def listen(monkeypatch):
    """Listen on a free port of the range; ``found`` are the ports that seem to be free, one after the other."""
    from crossbar.common.twisted import endpoint

    def listen(*found):
        seeming = iter(found)
        monkeypatch.setattr(endpoint, "first_free_tcp_port", lambda host, portrange: next(seeming))
        config = {"type": "tcp", "portrange": [10000, 10100], "interface": HOST}
        listening = endpoint.create_listening_port_from_config(config, ".", Factory(), reactor, None)
        result = []
        listening.addBoth(result.append)
        ports.extend(result)
        return result[0]

    ports = []
    yield listen
    for port in ports:
        if hasattr(port, "stopListening"):
            port.stopListening()


@pytest.fixture
def taken():
    with socket.create_server((HOST, 0)) as other:
        yield other.getsockname()[1]


def free():
    with socket.create_server((HOST, 0)) as other:
        return other.getsockname()[1]


def test_a_port_that_another_worker_has_just_taken_is_looked_for_again(listen, taken):
    expected = free()
    assert listen(taken, taken, expected).getHost().port == expected


def test_not_for_ever(listen, taken):
    assert listen(*[taken] * 10).check(CannotListenError)


def backlog_of(port):
    """How many connections may wait there to be accepted, as the kernel says."""
    told = port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return struct.unpack_from("=I", told, 28)[0]  # tcpi_sacked of a listening socket (linux/tcp.h)


@pytest.mark.parametrize("said, expected", [(None, 1024), (7, 7)])
def test_a_storm_of_new_connections_finds_room_where_proxies_listen(said, expected):
    options = dict.fromkeys(
        ("http_access_log", "http_display_tracebacks", "http_hsts", "http_hsts_max_age", "http_client_timeout")
    )
    cluster = SimpleNamespace(tcp_port=None, tcp_shared=False, tcp_interface=HOST, tcp_backlog=said, **options)
    listens({**reader._transport(cluster)["endpoint"], "port": free()}, expected)


def test_a_storm_of_new_connections_finds_room_where_routers_listen():
    listens({**router_worker.listener_config({})["endpoint"], "interface": HOST}, 1024)


def listens(config, backlog):
    """The released checker and the released function take it."""
    from crossbar.common.checkconfig import check_listening_endpoint_tcp
    from crossbar.common.twisted import endpoint

    check_listening_endpoint_tcp(config)
    result = []
    endpoint.create_listening_port_from_config(config, ".", Factory(), reactor, None).addBoth(result.append)
    try:
        assert backlog_of(result[0]) == backlog
    finally:
        result[0].stopListening()
