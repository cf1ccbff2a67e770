"""What counts as a cluster address, who says so, and when it goes on record."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossbar_cluster.core.address import AddressClaim, InvalidAddress, describe, parse_address

ADDRESSES = {
    "10.0.0.7": "10.0.0.7",
    "127.0.0.1": "127.0.0.1",
    "fd00::7": "fd00::7",
    "FD00:0:0:0::0007": "fd00::7",
    "::1": "::1",
    "::ffff:10.0.0.1": "::ffff:10.0.0.1",
    "::FFFF:A00:1": "::ffff:10.0.0.1",
    "localhost": "localhost",
    "Router1.Example.ORG": "router1.example.org",
    "router-0.routers.default.svc.cluster.local.": "router-0.routers.default.svc.cluster.local.",
    "crossbar_router_realm1": "crossbar_router_realm1",
    "3com.example": "3com.example",
    "a" * 63 + ".example": "a" * 63 + ".example",
}
NO_ADDRESSES = [
    "",
    " ",
    "10.0.0.7:9000",
    "http://10.0.0.7",
    "ws://router1/ws",
    "router1:10000",
    "router 1",
    "10.0.0.256",
    "10.0.0",
    "1.2.3.4.5",
    "12345",
    "[fd00::7]",
    "fe80::1%eth0",
    "fe80::1",
    "240.0.0.1",
    "::ffff:0.0.0.0",
    "0x7f000001",
    "router.0x1",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "255.255.255.255",
    "-router1",
    "router1-",
    "router..1",
    ".router1",
    "a" * 64,
    "a." * 127 + "aa",
    "x" * 300,
    "röuter1",
    "router1\n",
    "router1\x1b[31m",
    "router1/24",
    "٣.example",
]


@pytest.mark.parametrize(("written", "parsed"), ADDRESSES.items())
def test_address(written: str, parsed: str) -> None:
    assert parse_address(written) == parsed


@pytest.mark.parametrize("value", [*NO_ADDRESSES, None, 7, 10.0, True, b"10.0.0.7", ["10.0.0.7"], {"ip": "10.0.0.7"}])
def test_no_address(value: object) -> None:
    with pytest.raises(InvalidAddress) as refused:
        parse_address(value)
    assert "expected an IPv4 address" in str(refused.value)
    assert describe(value) in str(refused.value)
    assert str(refused.value).isprintable()


@given(st.one_of(st.text(), st.text(alphabet="0123456789abcdef.:_-xX%/[]"), st.ip_addresses().map(str)))
@example("1" * 4301 + ".1")
def test_whatever_is_accepted_is_its_own_canonical_spelling(text: str) -> None:
    try:
        parsed = parse_address(text)
    except InvalidAddress as e:
        assert len(str(e)) < 300
    else:
        assert parse_address(parsed) == parsed
        assert parsed.isascii() and parsed.isprintable() and len(parsed) <= 253


@pytest.mark.parametrize("unset", [{}, {"CROSSBAR_NODE_CLUSTER_IP": ""}, {"CROSSBAR_NODE_CLUSTER_IP": "  \t"}])
def test_without_a_word_of_its_own_a_node_is_at_the_default(unset: dict[str, str]) -> None:
    assert AddressClaim.from_environment(unset) == AddressClaim("127.0.0.1", is_default=True)


def test_a_node_reads_its_address_from_the_environment_and_strips_it() -> None:
    claim = AddressClaim.from_environment({"CROSSBAR_NODE_CLUSTER_IP": " 10.0.0.7\n"})
    assert claim == AddressClaim("10.0.0.7", is_default=False)


def test_the_default_address_counts_as_set_when_it_was_set() -> None:
    claim = AddressClaim.from_environment({"CROSSBAR_NODE_CLUSTER_IP": "127.0.0.1"})
    assert not claim.is_default
    assert claim.replaces("10.0.0.7")


@pytest.mark.parametrize("value", ["http://10.0.0.7", "10.0.0.7:9000", "a b", "x" * 300])
def test_a_wrong_value_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        AddressClaim.from_environment({"CROSSBAR_NODE_CLUSTER_IP": value})
    message = str(refused.value)
    assert message.startswith("CROSSBAR_NODE_CLUSTER_IP: ")
    assert value[:50] in message
    assert "expected an IPv4 address" in message and "host name" in message


@given(st.builds(AddressClaim, st.sampled_from(sorted(ADDRESSES.values())), st.booleans()))
def test_a_claim_survives_its_journey(claim: AddressClaim) -> None:
    assert AddressClaim.from_authextra({"pubkey": "ab", **claim.authextra}) == claim


@pytest.mark.parametrize("authextra", [None, {}, {"pubkey": "ab"}, "10.0.0.7", ["cluster_ip"], 7])
def test_no_claim(authextra: object) -> None:
    assert AddressClaim.from_authextra(authextra) is None


@pytest.mark.parametrize("value", [None, 7, {}, b"10.0.0.7", "http://10.0.0.7", "x" * 300])
def test_a_claim_that_is_no_address_is_refused(value: object) -> None:
    with pytest.raises(InvalidAddress):
        AddressClaim.from_authextra({"cluster_ip": value})


def test_a_node_that_does_not_name_its_source_is_believed_unless_it_says_the_default() -> None:
    assert AddressClaim.from_authextra({"cluster_ip": "10.0.0.7"}) == AddressClaim("10.0.0.7", is_default=False)
    assert AddressClaim.from_authextra({"cluster_ip": "127.0.0.1"}) == AddressClaim("127.0.0.1", is_default=True)
    named = {"cluster_ip": "10.0.0.7", "cluster_ip_source": ["environment"]}
    assert AddressClaim.from_authextra(named) == AddressClaim("10.0.0.7", is_default=True)


@pytest.mark.parametrize(
    ("address", "is_default", "recorded", "replaces"),
    [
        ("10.0.0.2", False, "10.0.0.1", True),
        ("10.0.0.1", False, "10.0.0.1", False),
        ("10.0.0.2", False, None, True),
        ("127.0.0.1", True, "10.0.0.1", False),
        ("127.0.0.1", True, None, True),
        ("127.0.0.1", True, "", True),
        ("127.0.0.1", True, "127.0.0.1", False),
    ],
)
def test_which_claims_go_on_record(address: str, is_default: bool, recorded: str | None, replaces: bool) -> None:
    assert AddressClaim(address, is_default).replaces(recorded) is replaces


@given(st.one_of(st.text(), st.binary(), st.integers(), st.dictionaries(st.text(), st.text())))
def test_what_a_stranger_sends_fits_on_a_line_of_the_log(value: object) -> None:
    assert describe(value).isprintable() and describe(value).isascii() and len(describe(value)) <= 90
