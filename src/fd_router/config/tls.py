"""The options of encrypted connections. Declared as in ``config.sections``."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fd_router.config.options import Option


class TlsConfig(msgspec.Struct, frozen=True):
    """Encrypted connections, from clients and to instances. A reload reads all files anew."""

    cert_path: Annotated[
        str,
        Option(
            help="PEM file with the router's certificate and those of its issuers: clients must use TLS, 1.2 or newer. "
            "None: no TLS."
        ),
    ] = ""
    key_path: Annotated[
        str, Option(help="PEM file with the certificate's private key, without passphrase. None: it is in cert-path.")
    ] = ""
    upstream: Annotated[bool, Option(help="Use TLS towards instances, for requests, probes and metrics.")] = False
    upstream_ca_path: Annotated[
        str, Option(help="PEM file with the authorities that issue the instances' certificates. None: the system's.")
    ] = ""
    upstream_name: Annotated[
        str,
        Option(
            help="Name that every instance's certificate must have. None: it must have the IP address that the "
            "instance registered with."
        ),
    ] = ""
    upstream_verify: Annotated[
        bool, Option(help="Whether the instances' certificates are checked at all; without, nobody's identity is sure.")
    ] = True
    upstream_cert_path: Annotated[
        str, Option(help="PEM file with the certificate that the router shows to instances. None: it shows none.")
    ] = ""
    upstream_key_path: Annotated[
        str, Option(help="PEM file with that certificate's private key. None: it is in upstream-cert-path.")
    ] = ""
