"""The dates of certificates, read from their files: the validity of X.509 (RFC 5280 section 4.1.2.5)."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

_BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

_UTC_TIME, _VERSION, _HIGH_BIT, _YEARS = 0x17, 0xA0, 0x80, 50


class Validity(NamedTuple):
    """From when to when."""

    begins: datetime
    ends: datetime


class _Element(NamedTuple):
    tag: int
    begin: int  # of its contents
    end: int


def validities(pem: str) -> list[Validity]:
    """Return the dates of each certificate in a file. Raises ValueError for one that can't be read."""
    try:
        return [_validity(ssl.PEM_cert_to_DER_cert(block)) for block in _BLOCK.findall(pem)]
    except IndexError:
        raise ValueError("a certificate ends too early") from None


def _validity(der: bytes) -> Validity:
    """Find the fifth field of what is signed, or the fourth where the version isn't told."""
    certificate = _element(der, 0)
    fields = list(_inside(der, _element(der, certificate.begin)))
    place = 4 if fields[0].tag == _VERSION else 3
    begins, ends = (_time(der, element) for element in _inside(der, fields[place]))
    return Validity(begins, ends)


def _inside(der: bytes, outer: _Element) -> Iterator[_Element]:
    at = outer.begin
    while at < outer.end:
        element = _element(der, at)
        yield element
        at = element.end


def _element(der: bytes, at: int) -> _Element:
    tag, length, begin = der[at], der[at + 1], at + 2
    if length & _HIGH_BIT:
        count = length - _HIGH_BIT
        length, begin = int.from_bytes(der[begin : begin + count], "big"), begin + count
    return _Element(tag, begin, begin + length)


def _time(der: bytes, element: _Element) -> datetime:
    text = der[element.begin : element.end].decode("ascii")
    if element.tag == _UTC_TIME:  # two digits: 1950 to 2049
        text = ("20" if int(text[:2]) < _YEARS else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
