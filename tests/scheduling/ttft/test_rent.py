from __future__ import annotations

from fd_router.scheduling.ttft.rent import MOST, Rent


def test_rent_adds_up_until_it_is_bought() -> None:
    rent = Rent()
    for _ in range(20):
        rent.use(b"system", 8, 0.25, is_new=False)
    assert rent.paid(b"system", 1, 8) == 5.0
    rent.use(b"system", 8, 0.25, is_new=True)
    assert rent.paid(b"system", 1, 8) == 0.0


def test_it_counts_only_while_fewer_have_it_than_its_share_would_fill() -> None:
    rent = Rent()
    for number in range(400):
        rent.use(b"half" if number % 2 else b"%d" % number, 8, 1.0, is_new=False)
    assert rent.paid(b"half", 3, 8) > 0
    assert rent.paid(b"half", 4, 8) == 0
    assert rent.paid(b"398", 1, 8) == 0  # asked for once


def test_room_is_paid_for_whatever_the_share_until_it_is_bought() -> None:
    rent = Rent()
    for _ in range(3):
        rent.use(b"system", 8, 1.0, 0.5, is_new=False)
    assert rent.paid(b"system", 8, 8) == 1.5
    rent.use(b"system", 8, 1.0, 0.5, is_new=True)
    assert rent.paid(b"system", 8, 8) == 0.0


def test_a_share_fades() -> None:
    rent = Rent()
    for _ in range(100):
        rent.use(b"old", 2, 1.0, is_new=False)
    assert rent.paid(b"old", 1, 2) > 0
    for _ in range(100):
        rent.use(b"new", 2, 1.0, is_new=False)
    assert rent.paid(b"old", 1, 2) == 0


def test_no_more_prefixes_than_it_may() -> None:
    rent = Rent()
    for number in range(MOST + 10):
        rent.use(b"%d" % number, 8, 1.0, is_new=False)
    assert repr(rent) == f"<Rent for {MOST} prefixes>"
