"""The groups that the registry hands out: who is in which, and what stays the same object."""

from __future__ import annotations

from typing import Any

import pytest

from fd_router.instances.group_key import ANY_MODEL, GroupKey
from fd_router.instances.registry import Registry
from fd_router.scheduling.load_table import LoadTable


def test_one_group_for_each_role_handed_out_again_and_again(registry: Registry) -> None:
    group = registry.group("mixed")
    assert registry.group("mixed") is group
    assert registry.group("decode") is not group
    assert (group.key, str(group.key)) == (GroupKey(ANY_MODEL, "mixed"), "mixed")
    assert str(registry.group("decode", "qwen").key) == "decode qwen"


def test_an_instance_is_in_the_group_of_its_role(registry: Registry, describe: Any) -> None:
    instance = registry.register(describe(1, "prefill"))
    prefill, decode = registry.group("prefill"), registry.group("decode")
    assert (instance.groups, prefill.available, decode.available) == ((prefill,), (instance,), ())
    registry.register(describe(1, "decode"))
    assert (instance.groups, prefill.available, decode.available) == ((decode,), (), (instance,))
    registry.remove(instance.key)
    assert (instance.groups, decode.available) == ((), ())


def test_what_happens_in_one_group_leaves_the_others_as_they_are(registry: Registry, describe: Any) -> None:
    prefill, decode = (registry.register(describe(port, role)) for port, role in ((1, "prefill"), (2, "decode")))
    before = registry.group("decode").candidates()
    registry.connection_failed(prefill, "refused")
    registry.register(describe(3, "prefill"))
    registry.remove(prefill.key)
    assert registry.group("decode").candidates() is before == (decode,)


@pytest.mark.parametrize("told", [{"labels": {"zone": "b"}}, {"tp_size": 4}, {"version": "2"}, {"something": "else"}])
def test_an_instance_that_tells_other_things_is_judged_anew(registry: Registry, describe: Any, told: Any) -> None:
    registry.register(describe(1))
    before = registry.group("mixed").candidates()
    registry.register(describe(1, **told))
    assert registry.group("mixed").candidates() == before
    assert registry.group("mixed").candidates() is not before
    again = registry.group("mixed").candidates()
    registry.register(describe(1, connected_decodes=["10.0.0.2:1"], max_requests=5, **told))
    assert registry.group("mixed").candidates() is again, "that changes all the time, and decides nothing"


def test_a_repaired_count_is_repaired_in_the_load_table(registry: Registry, describe: Any) -> None:
    fleet = [registry.register(describe(port)) for port in range(1, 100)]
    table, candidates = LoadTable(), registry.group("mixed").candidates()
    for _ in range(2):  # the second time they are adopted
        table.running(candidates)
    instance = fleet[7]
    for _ in range(3):
        instance.acquire(10)
    instance.repair(2)
    row = list(candidates).index(instance)
    assert (table.running(candidates)[row], table.tokens(candidates)[row]) == (1, 30)
    instance.repair(5)
    assert (table.running(candidates)[row], table.tokens(candidates)[row]) == (0, 0)
