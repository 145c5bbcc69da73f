"""Networks of clients, which share limits."""

from ipaddress import IPv6Address, ip_address, ip_network


def get_client_network(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or a /64 of IPv6."""
    try:
        ip = ip_address(address)
    except ValueError:
        # A Unix socket has no address.
        return address
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ip_network((ip.packed, 64), strict=False))
        ip = ip.ipv4_mapped
    return str(ip)
