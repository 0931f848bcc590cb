"""Killing the service and starting it again: finished episodes are there, open ones go on where they were."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from brownout.append_log import AppendLog
from brownout.envs.serve import LocalService, Service
from brownout.envs.serve_settings import ServeSettings
from brownout.envs.serve_store import EpisodeRequest, EpisodeStore
from brownout.envs.tools import ToolEpisode
from brownout.errors import ServeError

requests = pytest.importorskip("requests")

SECRET = "control-secret-of-the-tests"
PAID = {"Authorization": f"Bearer {SECRET}"}
STEPS = ("/crm/customers/{customer_id}", "/shop/orders/{order_id}", "/requester/messages", "/payments/refunds")


@contextmanager
def started(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The command, and the addresses that it prints."""
    command = [sys.executable, "-m", "brownout", "serve", "--records", str(folder), "--json", "--ignore-idle"]
    command += ["--port", "0", "--control-port", "0", *options]
    environment = os.environ | {"BROWNOUT_CONTROL_SECRET": SECRET}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server, json.loads(server.stdout.readline())
        finally:
            if server.poll() is None:
                server.kill()
            server.communicate()


def ask(session: Any, base: str, told: dict[str, Any], number: int) -> tuple[int, str]:
    """One read of an episode; (0, "") when nothing came back."""
    path = STEPS[number % len(STEPS)].format(**told["task"])
    try:
        answer = session.get(base + path, headers={"Authorization": f"Bearer {told['task']['access_token']}"})
    except requests.ConnectionError:
        return 0, ""
    return answer.status_code, answer.text


def replayed(seed: int, reads: int, finish: bool) -> ToolEpisode:
    """The same requests in this process."""
    episode = ToolEpisode("refund", seed)
    task = episode.session.task
    token = {"Authorization": f"Bearer {task['access_token']}"}
    for number in range(reads):
        episode.session.request("GET", STEPS[number % len(STEPS)].format(**task), token)
    if finish:
        episode.session.request("POST", "/finish", token)
    return episode


def test_sigkill_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    count, answered, finished = 16, {}, {}
    with started(tmp_path) as (server, told):
        opened = requests.post(f"{told['control']}/episodes", json={"count": count}, headers=PAID).json()["episodes"]
        threads = [
            threading.Thread(target=_work, args=(each, 5 + 10 * n, answered, finished)) for n, each in enumerate(opened)
        ]
        for thread in threads:
            thread.start()
        while len(finished) < 4:
            time.sleep(0.005)
        server.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert server.wait() == -signal.SIGKILL
    assert 4 <= len(finished) < count, "killed too early or too late to tell"
    with started(tmp_path) as (server, told):
        assert set(told) == {"agents", "control", "record"}, "the secret is known already"
        status = requests.get(f"{told['control']}/status", headers=PAID).json()
        assert status["open"] + status["closed"] == count
        assert status["closed"] >= len(finished)
        for each in opened:
            url, seed = f"{told['control']}/episodes/{each['id']}", each["header"]["seed"]
            shown = requests.get(url, headers=PAID).json()
            if each["id"] in finished:
                assert shown["state"] == "closed"
                assert shown["result"]["digest"] == replayed(seed, finished[each["id"]], True).result().digest
            elif shown["state"] == "open":
                # Every answer that a client got is behind us; at most one more request was done.
                closed = requests.post(f"{url}/close", headers=PAID).json()
                done = closed["calls"]
                assert answered.get(each["id"], 0) <= done <= answered.get(each["id"], 0) + 1
                again = replayed(seed, done, False)
                again.close()
                assert closed["digest"] == again.result().digest
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


def _work(told: dict[str, Any], reads: int, answered: dict[str, int], finished: dict[str, int]) -> None:
    with requests.Session() as session:
        for number in range(reads):
            status, text = ask(session, told["base_url"], told, number)
            if not status and not text and not _alive(session, told):
                return
            answered[told["id"]] = number + 1
        try:
            token = {"Authorization": f"Bearer {told['task']['access_token']}"}
            if session.post(told["base_url"] + "/finish", headers=token).ok:
                finished[told["id"]] = reads
        except requests.ConnectionError:
            pass


def _alive(session: Any, told: dict[str, Any]) -> bool:
    """Whether a connection that broke was the episode's doing: the description is no request of it."""
    try:
        return session.get(told["openapi_url"]).status_code in (200, 410)
    except requests.ConnectionError:
        return False


def test_an_open_episode_goes_on_after_a_clean_stop(tmp_path: Path) -> None:
    wish = {"profile": "clean", "count": 2}
    with started(tmp_path, "--time-scale", "0.5") as (server, told), requests.Session() as session:
        one, other = requests.post(f"{told['control']}/episodes", json=wish, headers=PAID).json()["episodes"]
        assert [ask(session, one["base_url"], one, n)[0] for n in range(3)] == [200] * 3
        token = {"Authorization": f"Bearer {other['task']['access_token']}"}
        waiting = threading.Thread(target=_wait_long, args=(other["base_url"], token))
        waiting.start()
        time.sleep(0.3)
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert time.monotonic() - began < 5, "a simulated hang does not hold up the end"
        waiting.join()
    with started(tmp_path) as (server, told), requests.Session() as session:
        base = f"{told['agents']}/e/{one['id']}"
        assert ask(session, base, one, 3)[0] == 200
        token = {"Authorization": f"Bearer {one['task']['access_token']}"}
        assert session.post(f"{base}/finish", headers=token).status_code == 200
        shown = requests.get(f"{told['control']}/episodes/{one['id']}", headers=PAID).json()
        assert (shown["state"], shown["restarts"], shown["result"]["calls"]) == ("closed", 1, 5)
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0
        assert server.stderr is not None
        assert "Traceback" not in server.stderr.read()


def _wait_long(base: str, token: dict[str, str]) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{base}/wait", json={"seconds": 300}, headers=token)


# ---------------------------------------------------------------- the record


def store(folder: Path) -> EpisodeStore:
    return EpisodeStore(folder, ServeSettings())


def recorded(folder: Path) -> str:
    """A record with one open episode of three requests; returns its id."""
    made = store(folder)
    held = made.open(EpisodeRequest(profile="clean"))
    assert held.episode is not None
    for _ in range(3):
        held.episode.session.call("requester.messages")
    made._record(held)
    made.shut()
    return held.id


def test_a_torn_last_line_is_taken_away(tmp_path: Path) -> None:
    key = recorded(tmp_path)
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write('{"kind": "event", "id": "' + key)
    made = store(tmp_path)
    held = made.find(key)
    assert held is not None
    assert held.episode is not None
    assert len(held.episode.events) == 3
    made.shut()


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"kind": "event"}', '{"kind": "other", "id": "x"}', "null"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    recorded(tmp_path)
    path = tmp_path / "episodes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    with pytest.raises(ServeError, match=r"episodes\.jsonl: line 3 is not of a"):
        store(tmp_path)


def test_a_record_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "episodes.jsonl").write_text('{"kind": "launch"}\n')
    with pytest.raises(ServeError, match="line 1 is not of a"):
        store(tmp_path)


def test_an_answer_that_would_differ_now_is_a_harness_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = recorded(tmp_path)
    path = tmp_path / "episodes.jsonl"
    path.write_text(path.read_text().replace('"digest":"', '"digest":"0', 1))
    made = store(tmp_path)
    assert made.find(key) is None
    row = made.recorded(key)
    assert row is not None
    assert (row["by"], row["result"]["outcome"]) == ("restart", "harness_error")
    assert "utility" not in row["result"], "no score at all"
    assert "cannot be rebuilt" in caplog.text
    assert made.counts["harness_errors"] == 1
    made.shut()


def test_a_service_that_cannot_record_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalService(Service(tmp_path, ServeSettings()))
    local.__enter__()
    held = local.service.store.open(EpisodeRequest(profile="clean"))

    def full(_log: AppendLog, _line: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AppendLog, "append", full)
    assert requests.get(f"{local.service.url}/e/{held.id}/requester/messages").status_code == 500
    for _ in range(100):
        if not local.running:
            break
        time.sleep(0.1)
    assert not local.running
    with pytest.raises(ServeError, match=r"a row was lost: .*No space left"):
        local.__exit__(None, None, None)


def test_a_result_that_was_not_written_is_made_up_for(tmp_path: Path) -> None:
    made = store(tmp_path)
    held = made.open(EpisodeRequest(profile="clean"))
    assert held.episode is not None
    held.episode.session.call("finish")
    made._record(held)  # and then the process dies
    result = held.episode.result().to_dict()
    made.shut()
    again = store(tmp_path)
    assert again.find(held.id) is None
    row = again.recorded(held.id)
    assert row is not None
    assert row["result"] == json.loads(json.dumps(result))
    again.shut()
