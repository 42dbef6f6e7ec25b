"""Keys, tokens and networks, as clients, instances and administrators meet them at a real router."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

import openai
from fd_router.admission.keys import entry, hash_key, make_key
from tests.support.fleet import QUICK, chat, eventually
from tests.support.mock_process import MockProcess, RouterProcess
from tests.support.ports import free_port
from tests.support.raw_client import RawClient

ADMIN, REGISTER = "admin-token-0123456789", "register-token-0123456789"
KEY, LIMITED, LATER = make_key(), make_key(), make_key()


def write_keys(path, more=""):
    limited = entry("limited", hash_key(LIMITED)) + "    models: [small]\n    requests-per-minute: 2\n"
    path.write_text("keys:\n" + entry("team", hash_key(KEY)) + limited + more)


@pytest.fixture(scope="module")
def mock():
    with MockProcess(**QUICK) as mock:
        yield mock.wait_until_up()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    write_keys(path)
    return path


@pytest.fixture(scope="module")
def router(mock, keys):
    access = {
        "keys-path": str(keys),
        "keys-check-interval-secs": 0.1,
        "admin-token": ADMIN,
        "register-token": REGISTER,
        "register-networks": "127.0.0.0/8",
        "protect-metrics": True,
    }
    kept = [{"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port}]
    with RouterProcess({"access": access, "log": {"output": "file"}}, instances=kept) as router:
        router.wait_until_up()
        eventually(lambda: get(router, "/registered_number", ADMIN).json()["mixed"] == 1)
        yield router
        shown = router.output + router.log
        assert "Traceback" not in shown
        for secret in (ADMIN, REGISTER, KEY, LIMITED, LATER):
            assert secret not in shown
            assert secret not in get(router, "/metrics", ADMIN).text


def bearer(secret):
    return {"authorization": f"Bearer {secret}"} if secret else {}


def get(router, path, token=""):
    return httpx.get(router.url + path, headers=bearer(token), timeout=60)


def ask(router, key="", **more):
    return httpx.post(
        f"{router.url}/v1/chat/completions", json=chat(max_tokens=1, **more), headers=bearer(key), timeout=60
    )


def openai_client(router, key):
    return openai.OpenAI(base_url=f"{router.url}/v1", api_key=key, max_retries=0)


def test_openai_clients_get_their_own_errors(router):
    messages = [{"role": "user", "content": "hello"}]
    with openai_client(router, KEY) as client:
        assert client.chat.completions.create(model="m", messages=messages).choices
    with openai_client(router, "sk-wrong") as client, pytest.raises(openai.AuthenticationError) as wrong:
        client.chat.completions.create(model="m", messages=messages)
    assert wrong.value.code == "invalid_api_key"
    with openai_client(router, LIMITED) as client:
        with pytest.raises(openai.PermissionDeniedError):
            client.chat.completions.create(model="m", messages=messages)
        for _ in range(2):
            client.chat.completions.create(model="small", messages=messages)
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(model="small", messages=messages)
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 30


def test_the_instance_sees_no_key_and_the_log_names_it(router, mock):
    mock.call("DELETE", "/mock/requests")
    assert ask(router, KEY).status_code == 200
    (received,) = mock.completions()
    assert "authorization" not in {name.lower() for name, _ in received["headers"]}
    eventually(lambda: " key=team" in router.log)


def test_metrics_tell_of_keys_by_name(router):
    assert ask(router).status_code == 401
    page = get(router, "/metrics", ADMIN).text
    assert 'fd_router_rejected_requests_total{reason="key_missing"}' in page
    assert 'fd_router_key_requests_total{key="team"}' in page
    assert 'fd_router_key_running_requests{key="team"} 0.0' in page


def test_a_changed_file_of_keys_comes_into_force_and_a_wrong_one_does_not(router, keys):
    assert ask(router, LATER).status_code == 401
    write_keys(keys, entry("later", hash_key(LATER)))
    eventually(lambda: ask(router, LATER).status_code == 200)
    keys.write_text("keys: [{name: later}]")
    eventually(lambda: "API keys not reloaded, those in force stay" in router.output + router.log)
    assert ask(router, LATER).status_code == 200
    write_keys(keys)
    eventually(lambda: ask(router, LATER).status_code == 401)


@pytest.mark.parametrize("path", ["/registered", "/registered_number", "/health_generate", "/metrics"])
def test_what_reveals_the_fleet_is_for_administrators(router, path):
    for token in ("", REGISTER, KEY):
        refusal = get(router, path, token)
        assert (refusal.status_code, refusal.headers["www-authenticate"]) == (401, "Bearer")
        assert refusal.json()["error"]["code"] == "invalid_token"
    assert get(router, path, ADMIN).status_code == 200
    assert get(router, "/health").status_code == 200


def test_only_instances_register_and_only_in_their_networks(router, mock):
    def register(host, address, headers):
        entry = {"role": "mixed", "host_ip": host, "port": mock.port}
        return httpx.post(f"{address}/register", json=entry, headers=headers, timeout=60).status_code

    assert register("127.0.0.1", router.url, {}) == 401
    assert register("127.0.0.1", router.url, bearer(REGISTER)) == 200
    assert register("127.0.0.1", router.url.replace("//", f"//any:{REGISTER}@"), {}) == 200
    assert register("192.0.2.1", router.url, bearer(REGISTER)) == 403  # where prompts could go


def test_a_control_port_takes_the_control_endpoints_from_the_main_one(mock):
    port = free_port()
    access = {"control-port": port, "control-host": "127.0.0.1"}
    with RouterProcess({"access": access}) as router:
        control = f"http://127.0.0.1:{port}"
        entry = {"role": "mixed", "host_ip": "127.0.0.1", "port": mock.port}
        assert httpx.post(f"{router.url}/register", json=entry, timeout=60).status_code == 404
        assert httpx.post(f"{control}/register", json=entry, timeout=60).status_code == 200
        for path in ("/metrics", "/registered", "/instances", "/health_generate"):
            assert (get(router, path).status_code, httpx.get(control + path, timeout=60).status_code) == (404, 200)
        assert get(router, "/health").status_code == httpx.get(f"{control}/health", timeout=60).status_code == 200
        assert ask(router).status_code == 200
        assert httpx.post(f"{control}/v1/chat/completions", json=chat(), timeout=60).status_code == 404
        with httpx.Client(timeout=60) as kept:  # a connection that is kept doesn't keep the router
            assert kept.get(f"{control}/health").status_code == 200
            router.process.send_signal(signal.SIGTERM)
            assert router.process.wait(25) == 0


def test_a_large_body_is_not_waited_for_without_a_key(router):
    with RawClient(router.port) as client:
        client.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n")
        assert client.read_head().status == 401


def test_a_control_port_in_use_is_an_error_at_the_start(mock):
    router = RouterProcess({"access": {"control-port": mock.port}})
    with pytest.raises(
        RuntimeError, match=r"(?s)exit code 1.*error: access.control-port: Failed to start server: port .* in use"
    ):
        router.wait_until_up()


def test_an_unusable_file_is_an_error_at_the_start(tmp_path):
    router = RouterProcess({"access": {"keys-path": str(tmp_path / "none.yaml")}})
    with pytest.raises(
        RuntimeError, match=r"(?s)exit code 1.*error: .*none.yaml: can't read the API keys: no such file"
    ):
        router.wait_until_up()


TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(("host", "access", "said"), [
    ("0.0.0.0", {}, "MAY DO EVERYTHING"),
    ("127.0.0.1", {}, ""),
    ("localhost", {}, ""),
    ("0.0.0.0", {"register-networks": "127.0.0.0/8"}, ""),
    ("0.0.0.0", {"register-token": TOKEN}, ""),
    ("0.0.0.0", {"admin-token": TOKEN}, "MAY REGISTER INSTANCES"),
    ("0.0.0.0", {"control-port": 1}, ""),
    ("127.0.0.1", {"control-port": 1, "control-host": "0.0.0.0"}, "MAY REGISTER INSTANCES"),
    ("127.0.0.1", {"control-port": 1, "control-host": "0.0.0.0", "register-networks": "127.0.0.0/8"}, ""),
])  # fmt: skip
def test_a_router_open_to_everybody_says_so(host, access, said):
    if "control-port" in access:
        access = access | {"control-port": free_port()}
    with RouterProcess({"server": {"host": host}, "access": access}) as router:
        router.wait_until_up()
        router.process.send_signal(signal.SIGTERM)
        router.process.wait(25)
        warnings = [line for line in router.output.splitlines() if "ANYBODY WHO REACHES" in line]
    assert len(warnings) == bool(said)
    assert said in "".join(warnings)


def test_it_says_that_keys_for_instances_are_shown_too(tmp_path):
    (tmp_path / "key").write_text("the-key-for-instances")
    sections = {"server": {"host": "0.0.0.0"}, "instances": {"api-key-path": str(tmp_path / "key")}}
    with RouterProcess(sections) as router:
        router.wait_until_up()
        router.process.send_signal(signal.SIGTERM)
        router.process.wait(25)
        output = router.output
    assert "register instances, to which prompts and the key for instances are sent then" in output
    assert "the-key-for-instances" not in output


def test_a_socket_that_was_handed_over_counts_as_what_it_is():
    """Not as server.host says, which it has nothing to do with."""
    with socket.create_server(("0.0.0.0", 0)) as shared:
        environ = {"LISTEN_FDS": "1", "FD_ROUTER_SERVER_PORT": "1", "FD_ROUTER_SERVER_HOST": "127.0.0.1"}
        start = f"import os; os.dup2({shared.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
        start += "os.execv(sys.executable, [sys.executable, '-m', 'fd_router'])"
        with subprocess.Popen(
            [sys.executable, "-c", f"import sys; {start}"], pass_fds=[shared.fileno()], env=os.environ | environ,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                httpx.get(f"http://127.0.0.1:{shared.getsockname()[1]}/health", timeout=60).raise_for_status()
            finally:
                process.terminate()
            output, _ = process.communicate(timeout=60)
    assert "ANYBODY WHO REACHES 0.0.0.0 MAY DO EVERYTHING" in output
