from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from fd_router.admin.certificates import validities


def pem(expires: datetime) -> str:
    authority = trustme.CA()
    text: str = authority.issue_cert("localhost", not_after=expires).cert_chain_pems[0].bytes().decode()
    return text


@pytest.mark.parametrize("years", [1, 40])  # the second one's time is written in the other form
def test_the_dates_of_a_certificate(years: int) -> None:
    expires = (datetime.now(UTC) + timedelta(days=365 * years)).replace(microsecond=0)
    (validity,) = validities(pem(expires))
    assert validity.ends == expires
    assert validity.begins < datetime.now(UTC)


def test_all_of_a_file() -> None:
    expires = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert len(validities(f"# mine\n{pem(expires)}\n{pem(expires)}")) == 2
    assert validities("nothing") == []


def test_what_can_not_be_read() -> None:
    for text in ("!!!!", "MA==", "MIIB"):
        with pytest.raises(ValueError):
            validities(f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
