"""Where a router worker listens for proxies: at its node's address, if that is one of this host's."""

import socket

import pytest

from crossbar_cluster.node.address import listening_interface


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, **values: object) -> None:
        self.lines.append(text.format(**values))


@pytest.mark.parametrize(
    ("address", "listen", "interface", "told"),
    [
        pytest.param("127.9.8.7", "", "127.9.8.7", False, id="an-address-of-this-host"),
        pytest.param("127.9.8.7", "address", "127.9.8.7", False, id="as-the-switch-says"),
        pytest.param("127.9.8.7", "all", "", False, id="or-does-not"),
        pytest.param("192.0.2.1", "", "", True, id="of-another-host"),  # RFC 5737: nobody has it
        pytest.param("localhost", "", "", True, id="a-host-name"),
        pytest.param("no.such.host.invalid", "", "", False, id="an-unknown-name"),
        pytest.param("2001:db8::1", "", "::", True, id="ipv6-of-another-host"),  # RFC 3849
        pytest.param(None, "", "", False, id="nobody-has-said"),
    ],
)
def test_the_interface(monkeypatch, address, listen, interface, told):
    monkeypatch.setenv("CROSSBAR_CLUSTER_LISTEN", listen)
    monkeypatch.delenv("CROSSBAR_NODE_CLUSTER_IP", raising=False)
    if address:
        monkeypatch.setenv("CROSSBAR_NODE_CLUSTER_IP", address)
    if address == "localhost":  # whatever this machine makes of it
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    log = Log()
    assert listening_interface(log) == interface
    assert bool(log.lines) == told
    assert not told or address in log.lines[0]
