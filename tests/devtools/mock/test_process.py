"""The mock instance as a process, as tests and users start it."""

import signal

from tests.support.mock_process import MockProcess, call

BODY = {"prompt": "hello", "max_tokens": 3}


def test_serves_and_ends_cleanly():
    with MockProcess(name="mock-a", decode_ms_per_token=1) as mock:
        status, answer = mock.call("POST", "/v1/completions", BODY)
        assert status == 200
        assert answer["choices"][0]["text"] == "mock-a reads the"
        assert mock.output == f"mock mixed instance on {mock.url}\n"
        assert [each["path"] for each in mock.completions()] == ["/v1/completions"]
        assert mock.received()[0]["path"] == "/health"
        mock.set_faults("status:status=418")
        assert mock.call("POST", "/v1/completions", BODY)[0] == 418
        assert mock.stop() == 0


def test_a_paused_process_holds_its_connections_and_goes_on():
    with MockProcess(decode_ms_per_token=1) as mock:
        mock.pause()
        try:
            call(mock.port, "GET", "/health", timeout=0.2)
        except TimeoutError:
            pass
        else:
            raise AssertionError("a paused process answered")
        mock.resume()
        assert mock.call("GET", "/health")[0] == 200
        mock.kill()
        assert mock.process.returncode == -signal.SIGKILL


def test_a_taken_port_is_one_line_and_an_exit_code():
    with MockProcess() as mock:
        other = MockProcess(port=mock.port)
        try:
            assert other.process.wait(60) == 1
            assert len(other.output.splitlines()) == 1
            assert str(mock.port) in other.output
        finally:
            other.end()


def test_a_wrong_fault_is_one_line_and_an_exit_code():
    mock = MockProcess(fault="explode")
    try:
        assert mock.process.wait(60) != 0
        assert "unknown fault 'explode'" in mock.output
        assert "Traceback" not in mock.output
    finally:
        mock.end()
