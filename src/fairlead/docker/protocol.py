"""What Docker sends and what it is answered: libnetwork's remote protocol, one value a request, one a reply.

Read moby's daemon/libnetwork/drivers/remote/api and ipams/remote/api beside it. Every request is a POST with JSON; newer
versions of Docker send fields that older ones do not, so a field that is not known here is passed over. Go sends ``null``
for an empty map or list and ``""`` for an address that there is not.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"

PREFIX = "com.docker.network"
GENERIC = f"{PREFIX}.generic"
INTERNAL = f"{PREFIX}.internal"
GATEWAY = f"{PREFIX}.gateway"
PORTS = f"{PREFIX}.portmap"
MAC = f"{PREFIX}.endpoint.macaddress"
ADDRESS_TYPE = "RequestAddressType"

_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Short = Annotated[str, msgspec.Meta(max_length=256)]
_Options = dict[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The base of every request and reply: field names as Go spells them."""


class Nothing(Message, frozen=True, kw_only=True):
    """No payload, and the reply ``{}``."""


class Pool(Message, frozen=True, kw_only=True):
    """One subnet of a network: prefix, gateway and auxiliary addresses, the latter two with their prefix length."""

    address_space: _Short = ""
    pool: _Short = ""
    gateway: _Short = ""
    aux_addresses: dict[str, _Short] | None = None


class CreateNetwork(Message, frozen=True, kw_only=True):
    """A network is made; also what AllocateNetwork sends on the manager of a swarm."""

    network_id: _Id = msgspec.field(name="NetworkID")
    options: _Options | None = None
    ipv4_data: tuple[Pool, ...] | None = msgspec.field(default=None, name="IPv4Data")
    ipv6_data: tuple[Pool, ...] | None = msgspec.field(default=None, name="IPv6Data")

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The subnets of both families."""
        return (*(self.ipv4_data or ()), *(self.ipv6_data or ()))


class DeleteNetwork(Message, frozen=True, kw_only=True):
    """A network is removed."""

    network_id: _Id = msgspec.field(name="NetworkID")


class Interface(Message, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint's addresses. What Docker gives must not be given back."""

    address: _Short = ""
    address_ipv6: _Short = msgspec.field(default="", name="AddressIPv6")
    mac_address: _Short = ""


class Endpoint(Message, frozen=True, kw_only=True):
    """An endpoint is meant: DeleteEndpoint, EndpointOperInfo, Leave, RevokeExternalConnectivity."""

    network_id: _Id = msgspec.field(name="NetworkID")
    endpoint_id: _Id = msgspec.field(name="EndpointID")


class CreateEndpoint(Endpoint, frozen=True, kw_only=True):
    """An endpoint is made; its container is not known yet."""

    interface: Interface | None = None
    options: _Options | None = None


class Join(Endpoint, frozen=True, kw_only=True):
    """A container gets the endpoint. ``sandbox_key`` is the path where its namespace is, or will be in a moment."""

    sandbox_key: Annotated[str, msgspec.Meta(max_length=4096)]
    options: _Options | None = None


class ProgramExternalConnectivity(Endpoint, frozen=True, kw_only=True):
    """This of the container's endpoints is its way out, and the one to publish its ports on."""

    options: _Options | None = None


class Discovery(Message, frozen=True, kw_only=True):
    """A node of a swarm came or went."""

    discovery_type: int = 0
    discovery_data: Any = None


class PortBinding(Message, frozen=True, kw_only=True):
    """One published port. A host port of 0, or a last one above it, leaves the choice to the driver."""

    proto: int
    port: int
    host_ip: _Short = msgspec.field(default="", name="HostIP")
    host_port: int = 0
    host_port_end: int = 0


class RequestPool(Message, frozen=True, kw_only=True):
    """A network will need a subnet: this one, or any of the family."""

    address_space: _Short = ""
    pool: _Short = ""
    sub_pool: _Short = ""
    options: dict[str, str] | None = None
    v6: bool = msgspec.field(default=False, name="V6")


class ReleasePool(Message, frozen=True, kw_only=True):
    """A subnet is needed no more."""

    pool_id: _Short = msgspec.field(name="PoolID")


class RequestAddress(Message, frozen=True, kw_only=True):
    """An address is needed: this one, or any; ``options`` say what for."""

    pool_id: _Short = msgspec.field(name="PoolID")
    address: _Short = ""
    options: dict[str, str] | None = None


class ReleaseAddress(Message, frozen=True, kw_only=True):
    """An address is needed no more."""

    pool_id: _Short = msgspec.field(name="PoolID")
    address: _Short = ""


class Activated(Message, frozen=True, kw_only=True):
    """What this plugin is."""

    implements: tuple[str, ...] = ("NetworkDriver", "IpamDriver")


class Scope(Message, frozen=True, kw_only=True):
    """What this network driver can: networks of one host, which need no swarm."""

    scope: str = "local"
    connectivity_scope: str = "local"
    gw_alloc_checker: bool = False


class SkipGateway(Message, frozen=True, kw_only=True):
    """Whether Docker need not ask for a gateway's address; it always should."""

    skip_ipv4: bool = msgspec.field(default=False, name="SkipIPv4")
    skip_ipv6: bool = msgspec.field(default=False, name="SkipIPv6")


class Allocated(Message, frozen=True, kw_only=True):
    """What a swarm's manager passes on to the nodes: the options as they are."""

    options: dict[str, str]


class EndpointCreated(Message, frozen=True, kw_only=True):
    """What Docker did not give."""

    interface: Interface


class InterfaceName(Message, frozen=True, kw_only=True):
    """The interface to move, and what its name inside begins with."""

    src_name: str
    dst_prefix: str


class Joined(Message, frozen=True, kw_only=True):
    """How Docker is to set up the container. ``disable_gateway_service``: it makes no way out of its own beside ours."""

    interface_name: InterfaceName
    gateway: str = ""
    gateway_ipv6: str = msgspec.field(default="", name="GatewayIPv6")
    disable_gateway_service: bool = True


class Info(Message, frozen=True, kw_only=True):
    """What the driver knows of an endpoint. Docker reads keys of its own as Go types that JSON cannot carry: none is used."""

    value: dict[str, Any]


class Needs(Message, frozen=True, kw_only=True):
    """What this IPAM driver needs. The MAC tells an endpoint's request from its repetition, and from an auxiliary address."""

    requires_mac_address: bool = msgspec.field(default=True, name="RequiresMACAddress")
    requires_request_replay: bool = False


class Spaces(Message, frozen=True, kw_only=True):
    """The names of the two address spaces."""

    local_default_address_space: str = "fairlead"
    global_default_address_space: str = "fairlead-global"


class PoolGiven(Message, frozen=True, kw_only=True):
    """A subnet, and under which id to ask for its addresses."""

    pool_id: str = msgspec.field(name="PoolID")
    pool: str
    data: dict[str, str]


class AddressGiven(Message, frozen=True, kw_only=True):
    """An address with its prefix length."""

    address: str
    data: dict[str, str] = {}
