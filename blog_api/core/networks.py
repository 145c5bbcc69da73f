"""Networks of clients, which share limits."""

from ipaddress import IPv6Address, ip_address, ip_network


def get_client_networks(address: str) -> dict[str, str]:
    """Return the network that counts as one client: an IPv4 address, or a /64 of IPv6.

    With IPv6 also the site, a /48.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        # A Unix socket has no address.
        return {"network": address}
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            network, site = (str(ip_network((ip.packed, size), strict=False)) for size in (64, 48))
            return {"network": network, "site": site}
        ip = ip.ipv4_mapped
    return {"network": str(ip)}
