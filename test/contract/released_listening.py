"""Where a router worker listens: the released function, on real sockets."""

import socket

import pytest
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

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
