"""Every form that an answer may have on the wire, met by clients that nobody here wrote."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serve_support import JSON, ScriptedEpisode, scripted

httpx = pytest.importorskip("httpx")
requests = pytest.importorskip("requests")

from brownout.envs.tools import Response  # noqa: E402

HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
DATE = "Mon, 01 Sep 2025 08:00:00 GMT"
ANSWERS = {
    "/reset": Response(0, {}, "", 0.0, "reset"),
    "/timeout": Response(0, {}, "", 30.0, "timeout"),
    "/slow": Response(200, JSON, '{"slow": true}', 20.0),
    "/cut": Response(200, JSON | {"Content-Length": "64"}, '{"items": [{"id": "cus_', 0.0),
    "/damaged": Response(200, JSON, '{"items": [{"id": "cus_', 0.0),
    "/page": Response(502, {"Content-Type": "text/html"}, HTML, 0.0),
    "/limited": Response(429, JSON | {"Retry-After": "8"}, "{}", 0.0),
    "/nothing": Response(204, {}, "", 0.0),
    "/empty": Response(200, JSON | {"Content-Length": "0"}, "", 0.0),
    "/umlaut": Response(
        200, JSON | {"ETag": '"a1"', "Date": "Mon, 01 Sep 2025 08:00:00 GMT"}, '{"name": "Jörg ☂"}', 0.0
    ),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedEpisode, str]]:
    with scripted(tmp_path_factory.mktemp("wire"), ANSWERS, time_scale=0.01, body_bytes=1000) as pair:
        yield pair


def test_a_body_arrives_as_it_is(served: tuple[ScriptedEpisode, str]) -> None:
    answer = httpx.get(f"{served[1]}/umlaut")
    assert answer.json() == {"name": "Jörg ☂"}
    assert answer.headers["etag"] == '"a1"'


def test_headers_are_those_of_the_session_and_no_others(served: tuple[ScriptedEpisode, str]) -> None:
    answer = httpx.get(f"{served[1]}/umlaut")
    assert {name.lower() for name, _ in answer.headers.raw} == {b"content-type", b"content-length", b"etag", b"date"}
    assert answer.headers["date"] == DATE


def test_a_status_brings_its_headers_and_its_page(served: tuple[ScriptedEpisode, str]) -> None:
    limited, page = requests.get(f"{served[1]}/limited"), requests.get(f"{served[1]}/page")
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "8")
    assert (page.status_code, page.headers["Content-Type"], page.text) == (502, "text/html", HTML)


def test_a_reset_is_a_reset(served: tuple[ScriptedEpisode, str]) -> None:
    with pytest.raises(httpx.ReadError):
        httpx.get(f"{served[1]}/reset")
    with pytest.raises(requests.ConnectionError, match=r"Connection reset by peer|ECONNRESET|104"):
        requests.get(f"{served[1]}/reset")


def test_a_reset_on_the_wire_is_rst(served: tuple[ScriptedEpisode, str]) -> None:
    with _connected(served[1]) as (client, path):
        client.sendall(f"GET {path}/reset HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_timeout_is_silence_until_the_client_gives_up(served: tuple[ScriptedEpisode, str]) -> None:
    began = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{served[1]}/timeout", timeout=0.1)  # the hang lasts 30 s at a hundredth: 0.3 s
    assert 0.1 <= time.monotonic() - began < 0.25


def test_a_timeout_is_silence_until_its_time_is_over(served: tuple[ScriptedEpisode, str]) -> None:
    began = time.monotonic()
    with _connected(served[1]) as (client, path):
        client.sendall(f"GET {path}/timeout HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(1) == b"", "closed without an answer"
    assert 0.3 <= time.monotonic() - began < 0.6


def test_latency_is_waited_to_scale(served: tuple[ScriptedEpisode, str]) -> None:
    began = time.monotonic()
    assert httpx.get(f"{served[1]}/slow").json() == {"slow": True}
    assert 0.2 <= time.monotonic() - began < 0.4


def test_a_promise_of_more_bytes_is_broken(served: tuple[ScriptedEpisode, str]) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        httpx.get(f"{served[1]}/cut")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        requests.get(f"{served[1]}/cut")
    with _connected(served[1]) as (client, path):
        client.sendall(f"GET {path}/cut HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b"".join(iter(lambda: client.recv(4096), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"Content-Length: 64" in head
    assert body == b'{"items": [{"id": "cus_'


def test_a_damaged_body_of_its_true_length_is_no_broken_promise(served: tuple[ScriptedEpisode, str]) -> None:
    answer = httpx.get(f"{served[1]}/damaged")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Unterminated"):
        answer.json()


@pytest.mark.parametrize(("path", "status", "length"), [("/nothing", 204, None), ("/empty", 200, "0")])
def test_no_body(served: tuple[ScriptedEpisode, str], path: str, status: int, length: str | None) -> None:
    answer = httpx.get(f"{served[1]}{path}")
    assert (answer.status_code, answer.content, answer.headers.get("content-length")) == (status, b"", length)


def test_connections_are_kept_and_requests_of_a_connection_stay_in_order(served: tuple[ScriptedEpisode, str]) -> None:
    episode, base = served
    episode.asked.clear()
    with _connected(base) as (client, path):
        client.sendall(b"".join(f"GET {path}/n{n} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for n in range(20)))
        received = b""
        while received.count(b"HTTP/1.1 200") < 20 or not received.endswith(b"}"):
            received += client.recv(65536)
    assert [path for _, path, _, _ in episode.asked] == [f"/n{n}" for n in range(20)]


def test_requests_of_one_episode_take_turns(served: tuple[ScriptedEpisode, str]) -> None:
    began = time.monotonic()
    threads = [threading.Thread(target=httpx.get, args=(f"{served[1]}/slow",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 0.6


def test_a_request_reaches_the_session_as_it_was_sent(served: tuple[ScriptedEpisode, str]) -> None:
    episode, base = served
    httpx.post(f"{base}/a%2Fb%20c?cursor=p%261&x=", content=b'{"n": 1}', headers={"Idempotency-Key": "k1"})
    method, path, headers, body = episode.asked[-1]
    assert (method, path, body) == ("POST", "/a%2Fb%20c?cursor=p%261&x=", b'{"n": 1}')
    assert headers["idempotency-key"] == "k1"


def test_a_large_body_is_refused_and_never_reaches_the_session(served: tuple[ScriptedEpisode, str]) -> None:
    episode, base = served
    before = len(episode.asked)
    assert httpx.post(f"{base}/x", content=b"a" * 1000).status_code == 200
    assert httpx.post(f"{base}/x", content=b"a" * 1001).status_code == 413
    assert requests.post(f"{base}/x", data=iter([b"a" * 600, b"a" * 600])).status_code == 413, "chunked, no length"
    with _connected(base) as (client, path):
        client.sendall(
            f"POST {path}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n".encode() + b"a" * 20000
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 413")
    assert len(episode.asked) == before + 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET {path}/x HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40000 + b"\r\n\r\n",
        b"GET {path}/" + b"a" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET {path}/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET {path}/x HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST {path}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET {path}/x HTTP/1.1\r\n\r\n",
    ],
    ids=["long header", "long line", "garbage", "bytes", "negative length", "smuggling", "no host"],
)
def test_what_is_no_request_is_refused(served: tuple[ScriptedEpisode, str], request_bytes: bytes) -> None:
    episode, base = served
    before = len(episode.asked)
    with _connected(base) as (client, path):
        client.sendall(request_bytes.replace(b"{path}", path.encode()))
        assert client.recv(4096).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    assert len(episode.asked) == before


class _connected:
    """A bare connection to a base address, and the path below which to ask."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self._client = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5)
        self._path = parts.path

    def __enter__(self) -> tuple[socket.socket, str]:
        return self._client, self._path

    def __exit__(self, *_: object) -> None:
        self._client.close()


def test_waiting_of_the_client_counts_in_whole_seconds(tmp_path: Path) -> None:
    with scripted(tmp_path / "a", ANSWERS) as (episode, base):
        for pause in (0.0, 0.3, 1.05):
            time.sleep(pause)
            httpx.get(f"{base}/umlaut")
        assert episode.waited == [1.0]
    with scripted(tmp_path / "b", ANSWERS, count_idle=False) as (episode, base):
        for pause in (0.0, 1.05):
            time.sleep(pause)
            httpx.get(f"{base}/umlaut")
        assert episode.waited == []


def test_the_services_own_rate_limit(tmp_path: Path) -> None:
    with scripted(tmp_path, ANSWERS, rate_per_s=5.0) as (episode, base), httpx.Client(base_url=base) as client:
        answers = [client.get("/umlaut") for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 5 <= len(refused) <= 7
        assert all(answer.headers["Retry-After"] == "1" for answer in refused)
        assert len(episode.asked) == 12 - len(refused), "a refused request is none of the episode's"


def test_connections_are_limited(tmp_path: Path) -> None:
    with scripted(tmp_path, ANSWERS, connections=3) as (_, base):
        kept = [_connected(base) for _ in range(4)]
        try:
            client, path = kept[-1].__enter__()
            client.sendall(f"GET {path}/umlaut HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 503")
        finally:
            for each in kept:
                each.__exit__()


def test_silent_and_slow_connections_are_closed(tmp_path: Path) -> None:
    served = scripted(tmp_path, ANSWERS, receive_s=1.0)
    with served as (_, base), _connected(base) as (client, _), _connected(base) as (slow, path):
        slow.sendall(f"POST {path}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
        assert client.recv(1) == b""


def test_a_defect_is_a_500_and_a_harness_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with scripted(tmp_path, ANSWERS) as (episode, base):
        assert httpx.get(f"{base}/raise").status_code == 500
        assert episode.done
        assert httpx.get(f"{base}/umlaut").status_code == 410
    assert '"outcome":"harness_error"' in (tmp_path / "episodes.jsonl").read_text()
    assert "a defect of the simulation" in caplog.text
