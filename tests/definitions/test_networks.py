"""Networks of proxies, and whose request it is that they pass on."""

from __future__ import annotations

import pytest

from iii.formats.networks import HOPS_MAX, Networks, network_fault

TRUSTED = Networks(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    "written", ["10.0.0.7", "10.0.0.0/8", "0.0.0.0/0", "::1", "fd00::/8", "2001:db8::/64"]
)
def test_addresses_and_networks_are_taken(written: str) -> None:
    assert network_fault(written) is None


@pytest.mark.parametrize(
    "written", ["", "proxy", "10.0.0.0/33", "10.0.0", "10.0.0.0/8/8", "fe80::1%eth0/64", "*"]
)
def test_what_is_no_network_is_named_with_how_to_write_one(written: str) -> None:
    assert "is no address and no network" in (network_fault(written) or "")


def test_an_address_within_a_network_is_refused_with_the_network() -> None:
    assert 'write "10.0.0.0/8"' in (network_fault("10.1.2.3/8") or "")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.1", "1.2.3.4", "192.0.2.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "192.0.2.9", "192.0.2.9"),
        ("127.0.0.1", "1.2.3.4, 192.0.2.9", "192.0.2.9"),
        ("127.0.0.1", "1.2.3.4, 192.0.2.9,10.1.1.1 , 10.2.2.2", "192.0.2.9"),
        ("::ffff:10.9.9.9", "192.0.2.9:4711", "192.0.2.9"),
        ("fd00::1", "[2001:db8::9]:4711", "2001:db8::9"),
        ("127.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("127.0.0.1", "1.2.3.4, unknown", "127.0.0.1"),
        ("127.0.0.1", "1.2.3.4, unknown, 10.0.0.2", "10.0.0.2"),
        ("no address", "1.2.3.4", "no address"),
    ],
)
def test_a_client_is_the_last_address_that_no_trusted_proxy_has(
    peer: str, forwarded_for: str, client: str
) -> None:
    assert TRUSTED.hops(peer, forwarded_for)[0] == client


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert Networks([]).hops("127.0.0.1", "1.2.3.4")[0] == "127.0.0.1"


def test_of_a_header_without_end_only_its_last_hops_are_read() -> None:
    many = ",".join(["10.0.0.1"] * 50_000)
    assert TRUSTED.hops("127.0.0.1", f"192.0.2.9,{many}")[0] == "10.0.0.1"
    hops = ",".join(["10.0.0.1"] * (HOPS_MAX - 1))
    assert TRUSTED.hops("127.0.0.1", f"192.0.2.9,{hops}")[0] == "192.0.2.9"
