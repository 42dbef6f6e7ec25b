"""Who is told to abort what, by which id, and which clients hear of it."""

import asyncio
import json

import pytest

from fd_router.api import abort
from fd_router.engines.dialect import AbortMessage, AbortReply
from fd_router.engines.openai import OpenAiDialect
from fd_router.engines.vllm import VllmDialect
from fd_router.errors import BadRequestError
from fd_router.http.messages import Request, RequestHead
from fd_router.instances.instance import Instance
from fd_router.routing.in_flight import InFlight
from tests.support.turns import slice_finely, turns_during
from tests.support.waiting import until

ABORT = "/v1/abort_requests"


class Running:
    """A request under way at one instance."""

    def __init__(self, request_id, instance, engine_id=None):
        self.request_id = request_id
        self.engine_id = request_id if engine_id is None else engine_id
        self.instance = instance
        self.is_aborted = False

    def instances(self):
        return (self.instance,)

    def on_abort_asked(self):
        self.is_asked = True

    def on_aborted(self):
        self.is_aborted = True


def make_api(members, in_flight, post, *, log):
    return abort.AbortApi(members, in_flight, post, credentials=lambda call: call.head.authorization, log=log)


class Setting:
    """One instance that answers with ``reply``; a request can be put under way there."""

    def __init__(self, log, describe):
        self.instance = Instance(describe())
        self.nameless = []  # requests that their instances know no id of
        self.in_flight = InFlight(lambda: self.nameless)
        self.told = []
        self.reply = b""
        self.status = 200
        self.shown = []
        self.api = make_api(lambda: [self.instance], self.in_flight, self.post, log=log)

    async def post(self, instance, message, authorization):
        self.told.append(json.loads(message.body))
        self.shown.append(authorization)
        return self.status, self.reply

    def run(self, request_id, engine_id=None):
        running = Running(request_id, self.instance, engine_id)
        self.in_flight.add(request_id, running)
        return running

    def run_nameless(self, request_id):
        running = Running(request_id, self.instance, "")
        self.nameless.append(running)
        return running

    def abort(self, *ids):
        entries = [{"request_id": each, "output_token_count": 3} for each in ids]
        self.reply = json.dumps({"error_msg": None, "result": {"aborted": entries, "not_found": []}}).encode()


@pytest.fixture
def setting(log, describe):
    return Setting(log, describe)


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr(abort, "GRACE_SECONDS", 0)


async def order(setting, ask, **order):
    status, value = await ask(setting.api.routes(), "POST", ABORT, body=json.dumps(order).encode())
    assert status == 200
    await asyncio.sleep(0.01)
    return value["result"]


async def test_what_runs_here_ends_with_its_connection_where_the_instance_knows_nothing_of_it(setting, ask):
    first, second = setting.run("r-1"), setting.run("r-2")
    setting.abort("r-1_0")
    result = await order(setting, ask, req_ids=["r-1", "r-2"])
    assert result["not_found"] == []
    assert [entry["request_id"] for entry in result["aborted"]] == ["r-2", "r-1_0"]
    assert (first.is_aborted, second.is_aborted) == (True, True)


@pytest.mark.parametrize("other", [(), ("r-1",)])
async def test_a_request_of_which_only_the_log_has_an_id_ends_with_its_connection(setting, ask, other):
    named, nameless, another = setting.run("r-1"), setting.run_nameless("x-1"), setting.run_nameless("x-2")
    setting.abort(*other)
    result = await order(setting, ask, req_ids=["x-1", *other])
    assert result["not_found"] == []
    assert [entry["request_id"] for entry in result["aborted"]] == ["x-1", *other]
    assert (named.is_aborted, nameless.is_aborted, another.is_aborted) == (bool(other), True, False)
    assert setting.told == [{"req_ids": [*other]}] * len(other)  # no instance is told of an id that it can't know


async def test_what_was_over_meanwhile_is_not_said_to_be_aborted(setting, ask):
    running = setting.run("r-1")

    async def post(instance, message, authorization):
        setting.in_flight.discard("r-1", running)
        return 200, b'{"result": {"aborted": [], "not_found": ["r-1"]}}'

    setting.api = make_api(lambda: [setting.instance], setting.in_flight, post, log=setting.api._log)
    assert await order(setting, ask, req_ids=["r-1"]) == {"aborted": [], "not_found": ["r-1"], "errors": []}
    assert not running.is_aborted


async def test_many_that_wait_are_aborted_while_others_have_a_turn(setting, ask, monkeypatch):
    slice_finely(monkeypatch)
    waiting = [setting.run(f"r-{number}") for number in range(100)]
    for one in waiting:
        one.instances = tuple  # none knows of it
    asking = ask(setting.api.routes(), "POST", ABORT, body=b'{"abort_all": true}')
    assert await turns_during(asking) >= 100
    assert all(one.is_aborted for one in waiting)


@pytest.mark.parametrize("which", [{"req_ids": ["r-1"]}, {"abort_all": True}])
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_an_instance_without_the_endpoint_is_told_by_the_end_of_the_connection(setting, ask, status, which):
    setting.status = status
    running = setting.run("r-1")
    result = await order(setting, ask, **which)
    assert result == {"aborted": [{"request_id": "r-1", "output_token_count": 0}], "not_found": [], "errors": []}
    assert running.is_aborted


async def test_an_engine_may_say_otherwise_that_it_has_no_such_endpoint_open(setting, ask):
    setting.status, setting.instance.dialect = 403, VllmDialect()
    running = setting.run("r-1")
    result = await order(setting, ask, req_ids=["r-1"])
    assert (result["errors"], running.is_aborted) == ([], True)


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_what_an_instance_refuses_to_abort_goes_on_and_is_not_unknown(setting, ask, status):
    setting.status = status
    running = setting.run("r-1")
    result = await order(setting, ask, req_ids=["r-1", "r-2"])
    errors = [{"server": setting.instance.url, "error": f"status {status}"}]
    assert result == {"aborted": [], "not_found": ["r-2"], "errors": errors}
    assert not running.is_aborted


async def test_the_callers_authorization_goes_along(setting, ask):
    await order(setting, ask, req_ids=["r-1"])
    assert setting.shown == [b""]
    await ask(setting.api.routes(), "POST", ABORT, body=b'{"abort_all": true}', authorization=b"Bearer sk")
    assert setting.shown == [b"", b"Bearer sk"]


async def test_all_that_a_silent_instance_was_told_of_is_ended(setting, ask):
    running = [setting.run("r-1"), setting.run("r-2")]
    result = await order(setting, ask, req_ids=["r-1", "r-2"])
    assert result["not_found"] == []
    assert all(one.is_aborted for one in running)


async def test_of_all_only_the_confirmed_ones_are_ended(setting, ask):
    first, second = setting.run("r-1"), setting.run("r-2")
    setting.abort("r-2")
    result = await order(setting, ask, abort_all=True, req_ids=None)
    assert [entry["request_id"] for entry in result["aborted"]] == ["r-2"]
    assert (first.is_aborted, second.is_aborted) == (False, True)


async def test_a_request_that_was_scheduled_again_is_aborted_by_its_new_id(setting, ask):
    running = setting.run("mine", "mine-retry1")
    setting.abort("mine-retry1_0")
    result = await order(setting, ask, req_ids=["mine"])
    assert setting.told == [{"req_ids": ["mine-retry1"]}]
    assert result["aborted"] == [{"request_id": "mine-retry1_0", "output_token_count": 3}]
    assert result["not_found"] == []
    assert running.is_aborted


async def test_an_id_that_looks_like_one_with_a_choice_is_found(setting, ask):
    running = setting.run("job_7")
    setting.abort("job_7")
    assert (await order(setting, ask, req_ids=["job_7"]))["not_found"] == []
    assert running.is_aborted


async def test_a_request_at_an_engine_without_such_an_endpoint_ends_with_its_connection(setting, ask):
    setting.instance.dialect = OpenAiDialect()
    running = setting.run("r-1")
    result = await order(setting, ask, req_ids=["r-1", "elsewhere"])
    assert running.is_aborted
    assert setting.told == []
    assert result["aborted"] == [{"request_id": "r-1", "output_token_count": 0}]
    assert result["not_found"] == ["elsewhere"]


class OneByOne(OpenAiDialect):
    """Aborts one request a message, by a path and a key of its own."""

    def abort(self, ids):
        return [AbortMessage("/abort_request", json.dumps({"rid": each}).encode()) for each in ids or ()]

    def read_abort(self, answer):
        rid = self.rids.pop(0)
        return AbortReply([{"request_id": rid}], frozenset({rid}))


async def test_an_engine_that_takes_one_id_a_message(setting, ask):
    setting.instance.dialect = dialect = OneByOne()
    dialect.rids = ["r-1", "r-2"]
    both = [setting.run("r-1"), setting.run("r-2")]
    result = await order(setting, ask, req_ids=["r-1", "r-2"])
    assert setting.told == [{"rid": "r-1"}, {"rid": "r-2"}]
    assert [entry["request_id"] for entry in result["aborted"]] == ["r-1", "r-2"]
    assert all(one.is_aborted for one in both)


class CountingDialect(OpenAiDialect):
    """Counts how often an order is written."""

    def __init__(self):
        super().__init__()
        self.orders = []

    def abort(self, ids):
        self.orders.append(None if ids is None else tuple(ids))
        return (AbortMessage(ABORT, json.dumps({"req_ids": list(ids or ())}).encode()),)

    def read_abort(self, answer):
        return AbortReply(is_silent=True)


async def test_ids_that_nobody_knows_are_written_once_however_many_instances_there_are(log, describe, ask):
    dialect, told = CountingDialect(), []
    members = [Instance(describe(port=8000 + number), dialect) for number in range(50)]

    async def post(instance, message, authorization):
        told.append((instance.key, json.loads(message.body)["req_ids"]))
        return 200, b""

    in_flight = InFlight()
    in_flight.add("mine", Running("mine", members[0]))
    routes = make_api(lambda: members, in_flight, post, log=log).routes()
    unknown = [f"x{number}" for number in range(abort.MAX_IDS - 1)]
    status, _ = await ask(routes, "POST", ABORT, body=json.dumps({"req_ids": ["mine", *unknown]}).encode())
    assert status == 200
    assert dialect.orders == [tuple(unknown), ("mine",)]
    assert len(told) == 51  # the request's own instance is told of it first, and then of the others
    assert told[0] == (members[0].key, ["mine"])
    assert sum(ids == ["mine"] for _, ids in told) == 1


async def test_more_ids_than_a_call_may_have_are_refused(setting, ask):
    with pytest.raises(BadRequestError, match="at most"):
        await order(setting, ask, req_ids=["x"] * (abort.MAX_IDS + 1))
    assert setting.told == []


class Broken(OpenAiDialect):
    """Fails in one of its two methods."""

    def __init__(self, *, writes):
        self.writes = writes

    def abort(self, ids):
        return [AbortMessage("/abort", b"{}")] if self.writes else 1 / 0

    def read_abort(self, answer):
        raise ZeroDivisionError


async def test_a_dialect_that_fails_to_write_aborts_is_one_without(setting, ask, log):
    setting.instance.dialect = Broken(writes=False)
    running = setting.run("r-1")
    assert (await order(setting, ask, req_ids=["r-1"]))["aborted"]
    assert running.is_aborted
    assert any("failed in abort: ZeroDivisionError at test_abort_api.py" in line for _, line in log.lines)


async def test_one_that_fails_to_read_the_answer_is_told(setting, ask, log):
    setting.instance.dialect = Broken(writes=True)
    running = setting.run("r-1")
    _, value = await ask(setting.api.routes(), "POST", ABORT, body=b'{"req_ids": ["r-1"]}')
    assert "failed in read_abort: ZeroDivisionError at test_abort_api.py" in json.dumps(value)
    assert [level for level, _ in log.lines].count("error") == 1
    assert not running.is_aborted


async def test_an_order_that_is_nested_too_deeply_is_refused(setting, ask):
    body = b'{"req_ids": ["a"], "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(BadRequestError, match="Invalid JSON format"):
        await ask(setting.api.routes(), "POST", ABORT, body=body)


async def test_an_abort_whose_caller_leaves_is_carried_out(log, describe):
    setting, gate = Setting(log, describe), asyncio.Event()
    running = setting.run("r")
    setting.abort("r")

    async def slow(instance, message, authorization):
        await gate.wait()
        return await setting.post(instance, message, authorization)

    setting.api._post = slow
    call = Request(RequestHead("POST", ABORT), b'{"req_ids": ["r"]}')
    caller = asyncio.create_task(setting.api.routes()[ABORT]["POST"](call))
    for _ in range(5):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    gate.set()
    await until(lambda: running.is_aborted)
    assert len(setting.told) == 1


async def test_one_that_ends_by_itself_before_anybody_is_told_is_not_aborted(setting, ask, log, describe, monkeypatch):
    slice_finely(monkeypatch)
    members = [Instance(describe(port)) for port in range(8000, 8020)]
    ended, running = (Running(each, members[0]) for each in ("ended", "r"))
    for each in (ended, running):
        setting.in_flight.add(each.request_id, each)
    ended.instances = lambda: () if not setting.in_flight.find("ended") else (members[0],)

    def all_members():
        for number, each in enumerate(members):
            if number == 5:
                setting.in_flight.discard("ended", ended)
            yield each

    setting.abort("r")
    setting.api = make_api(all_members, setting.in_flight, setting.post, log=log)
    answer = await order(setting, ask, abort_all=True)
    assert "ended" not in str(answer)
    assert (running.is_asked, hasattr(ended, "is_asked")) == (True, False)
