"""The HTTP interface over a real socket: what it does, and whom it refuses."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fuzz import fuzz
from service_bench import Bench, running

from edge.service.api import Server, Streams, create_app
from edge.service.door import COOKIE, MOST_BYTES, cookie_of, own_names

NO_BOOT = {"service": {"boot_focus": False}}
TOKEN = "0123456789abcdefghijkl"

Reply = tuple[int, dict[str, str], Any]


class Client:
    """Requests to one server; `ask` gives status, headers and the body, parsed where it is JSON."""

    def __init__(self, port: int, bench: Bench) -> None:
        self.port, self.bench = port, bench

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        connection = self.open()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
        connection.request(method, path, data, sent)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        kind = reply.getheader("content-type") or ""
        return reply.status, dict(reply.getheaders()), json.loads(text) if "json" in kind else text


@contextmanager
def served(folder: Path, *, token: str | None = None, **sections: dict[str, Any]) -> Iterator[Client]:
    with running(folder, **sections) as bench, socket.create_server(("127.0.0.1", 0)) as listening:
        bench.until("ready", "in_focus")
        streams = Streams()
        server = Server(
            create_app(bench.service, streams, token=token, names=own_names(["scope.lan"])),
            listening,
            streams,
        )
        try:
            yield Client(listening.getsockname()[1], bench)
        finally:
            server.close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A service that waits for requests, and asks for no token."""
    with served(tmp_path, **NO_BOOT) as client:
        yield client


class TestRequests:
    def test_focus_status_and_runs(self, client: Client) -> None:
        assert client.ask("GET", "/api/status")[2]["state"] == "ready"
        assert client.ask("POST", "/api/focus")[::2] == (202, {"accepted": True})
        client.bench.until("in_focus")
        status, _, found = client.ask("GET", "/api/status")
        assert (status, found["state"], found["last"]["by"]) == (200, "in_focus", "page")
        (run,) = client.ask("GET", "/api/runs?count=5")[2]
        assert run["result"]["result"] == "focused"
        status, _, whole = client.ask("GET", f"/api/runs/{run['run']}")
        assert (status, len(whole["entries"])) == (200, run["result"]["captures"])

    def test_jog(self, client: Client) -> None:
        assert client.ask("POST", "/api/jog", {"um": -4})[0] == 202
        client.bench.wait_for(lambda: "moved -4" in client.bench.service.status()["reason"], "the move")
        assert client.ask("GET", "/api/status")[2]["stage"]["position_um"] == pytest.approx(-4, abs=0.1)

    @pytest.mark.parametrize(
        "body",
        [
            {"um": 200},
            {"um": 1e9},
            {"um": "5"},
            {"um": None},
            {"um": True},
            {},
            {"um": 1, "fast": True},
            [1],
            b"{",
            b'{"um": NaN}',
            b'{"um": Infinity}',
            b"\xff",
        ],
    )
    def test_a_jog_that_is_not_allowed_moves_nothing(self, body: object, client: Client) -> None:
        status, _, found = client.ask("POST", "/api/jog", body)
        assert status == (400 if body == b"\xff" else 422), found
        assert list(found) == ["error"]
        assert "\n" not in found["error"]
        assert client.bench.opened[0].stage.moves == 0

    def test_what_a_body_lacks_is_said(self, client: Client) -> None:
        status, _, found = client.ask("POST", "/api/jog", b'{"um": 1}', content_type="text/plain")
        assert status == 422
        assert found["error"] == "body: JSON with 'Content-Type: application/json' is needed, not text/plain"
        status, _, found = client.ask("POST", "/api/jog", b"{um}")
        assert (status, found["error"].startswith("body.1: not JSON: ")) == (422, True)
        assert client.bench.opened[0].stage.moves == 0

    def test_collect(self, client: Client, tmp_path: Path) -> None:
        assert client.ask("GET", "/api/status")[2]["collect"] is None
        body = {"slide": "blood-7", "planes": 9, "step_dof": 1}
        for name in ("field-001", "field-002"):
            assert client.ask("POST", "/api/collect", body)[::2] == (202, {"accepted": True})
            made = tmp_path / "collected" / "blood-7" / name
            client.bench.wait_for(made.is_dir, name)
            client.bench.until("ready")
        found = client.ask("GET", "/api/status")[2]["collect"]
        assert (found["slide"], found["folder"], found["field"]) == ("blood-7", str(made.parent), "field-002")
        assert (found["planes_done"], found["planes"], found["fields"]) == (9, 9, 2)
        assert found["ended"].startswith(
            "z-stack of blood-7/field-002 is recorded: 9 planes of 3.41 µm; move the slide"
        )

    def test_collect_without_more_words_is_as_the_command(self, client: Client, tmp_path: Path) -> None:
        assert client.ask("POST", "/api/collect", {"slide": "a" * 64})[0] == 202
        about = tmp_path / "collected" / ("a" * 64) / "field-001" / "about.json"
        client.bench.wait_for(about.exists, "the field")
        found = json.loads(about.read_text("utf-8"))
        assert (found["planes_asked"], found["step_dof"]) == (21, pytest.approx(0.6, rel=0.01))

    @pytest.mark.parametrize(
        "body",
        [
            *(
                {"slide": name}
                for name in ("../x", "", ".hidden", "a" * 65, "a/b", "a b", "ä", "a\n", "..", 7, None)
            ),
            *({"slide": "a", "planes": planes} for planes in (20, 3, 1003, 21.5, "21", None, True)),
            *({"slide": "a", "step_dof": step} for step in (0, 20.1, -1, "1", None)),
            {"slide": "a", "planes": 201},  # more than there is room for
            {"slide": "a", "fields": 3},
            {},
            b'{"slide": "a", "step_dof": NaN}',
        ],
    )
    def test_a_collect_that_is_not_allowed_moves_nothing(
        self, body: object, client: Client, tmp_path: Path
    ) -> None:
        status, _, found = client.ask("POST", "/api/collect", body)
        assert (status, list(found)) == (422, ["error"]), found
        assert "\n" not in found["error"]
        assert found["error"].startswith(("body", "201 planes of ")), "told by the name that it has here"
        assert client.bench.service.state == "ready"
        assert client.bench.opened[0].stage.moves == 0
        assert not (tmp_path / "collected").exists()

    def test_stop_is_always_allowed(self, client: Client) -> None:
        assert client.ask("POST", "/api/stop")[::2] == (200, {"stopped": False})

    def test_busy(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        service, at_rest = client.bench.service, threading.Event()

        def rest(scope: object) -> None:
            at_rest.set()
            service._closing.wait(0.01)

        monkeypatch.setattr(service, "_turn", rest)  # which would find out that nothing is being done
        assert at_rest.wait(10.0)
        monkeypatch.setattr(service, "_doing", True)
        for path, body in (("/api/focus", None), ("/api/jog", {"um": 1}), ("/api/collect", {"slide": "a"})):
            status, _, found = client.ask("POST", path, body)
            assert (status, found["error"][:4]) == (409, "busy")
        assert client.ask("POST", "/api/stop")[2] == {"stopped": True}

    def test_hold(self, client: Client) -> None:
        assert client.ask("POST", "/api/hold", {"on": True})[2]["state"] == "waiting"
        assert client.ask("POST", "/api/hold", {"on": False})[2]["state"] == "off"
        assert client.ask("POST", "/api/hold", {"on": 1})[0] == 422

    def test_what_there_is_not(self, client: Client) -> None:
        assert client.ask("GET", "/api/runs/77")[::2] == (
            404,
            {"error": "run 77: none is kept under this number"},
        )
        assert client.ask("GET", "/api/runs/..%2f..%2fetc")[0] == 404
        assert client.ask("GET", "/api/runs/0")[0] == 422
        assert client.ask("GET", "/nothing")[0] == 404
        assert client.ask("GET", "/api/focus")[0] == 405
        assert client.ask("GET", "/api/runs?count=501")[0] == 422

    def test_the_document_describes_every_request(self, client: Client) -> None:
        document = client.ask("GET", "/api/openapi.json")[2]
        assert set(document["paths"]) == {
            *("/api/status", "/api/focus", "/api/jog", "/api/stop", "/api/hold", "/api/runs", "/api/login"),
            *("/api/collect", "/api/runs/{number}", "/api/frame.jpg", "/api/preview.mjpg", "/api/events"),
        }


class TestStreams:
    def test_events(self, client: Client) -> None:
        connection = client.open()
        connection.request("GET", "/api/events")
        reply = connection.getresponse()
        assert reply.getheader("content-type", "").startswith("text/event-stream")
        client.ask("POST", "/api/focus")
        kinds, number = [], 0
        while kinds[-1:] != ["run"]:
            line = reply.readline().decode().rstrip()
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            if line.startswith("id: "):
                assert int(line.removeprefix("id: ")) >= number
                number = int(line.removeprefix("id: "))
            if line.startswith("data: "):
                json.loads(line.removeprefix("data: "))
        connection.close()
        assert kinds[0] == "status"
        assert kinds.count("look") >= 2
        # Who comes back is told what it missed, and no more.
        connection = client.open()
        connection.request("GET", "/api/events", headers={"last-event-id": str(number - 1)})
        assert connection.getresponse().readline() == f"id: {number}\n".encode()
        connection.close()

    def test_pictures_and_a_reader_that_does_not_read(self, client: Client) -> None:
        slow = socket.create_connection(("127.0.0.1", client.port))
        slow.sendall(b"GET /api/preview.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, headers, data = client.ask("GET", "/api/frame.jpg")
        assert (status, headers["content-type"], data[:2]) == (200, "image/jpeg", b"\xff\xd8")
        for _ in range(20):
            assert client.ask("GET", "/api/status")[0] == 200
        slow.close()

    def test_too_many(self, client: Client) -> None:
        readers = []
        for _ in range(16):
            connection = client.open()
            connection.request("GET", "/api/events")
            assert connection.getresponse().readline().startswith(b"id:")
            readers.append(connection)
        assert client.ask("GET", "/api/events")[::2] == (503, {"error": "16 listen already"})
        for connection in readers:
            connection.close()
        done = threading.Event()
        for _ in range(400):
            connection = client.open()
            connection.request("GET", "/api/events")
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                done.set()
                break
            done.wait(0.01)
        assert done.is_set(), "those that left made room"


class TestDoor:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:9", "[::1]", "scope.lan."]
    )
    def test_its_own_names(self, host: str, client: Client) -> None:
        assert client.ask("GET", "/api/status", host=host)[0] == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example", "", "[", "a b", "0"],
    )
    def test_foreign_names(self, host: str, client: Client) -> None:
        status, headers, found = client.ask("GET", "/api/status", host=host)
        assert status == 403
        assert "[api] names" in found["error"]
        assert "default-src 'self'" in headers["content-security-policy"]

    def test_no_host_or_two(self, client: Client) -> None:
        for head in (b"", b"Host: localhost\r\nHost: evil.example\r\n"):
            with socket.create_connection(("127.0.0.1", client.port), timeout=5) as link:
                link.sendall(b"GET /api/status HTTP/1.1\r\n" + head + b"\r\n")
                assert link.recv(20).split()[1] in (b"400", b"403")

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "https://localhost:1", "http://localhost:2", ""]
    )
    def test_foreign_pages(self, origin: str, client: Client) -> None:
        status, _, found = client.ask("POST", "/api/focus", host="localhost:1", origin=origin)
        assert (status, found["error"]) == (403, "a page of another origin asks")
        assert client.bench.opened[0].stage.moves == 0

    def test_our_page(self, client: Client) -> None:
        assert client.ask("POST", "/api/stop", host="localhost:1", origin="http://localhost:1")[0] == 200

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_a_picture_in_a_foreign_page(self, site: str, client: Client) -> None:
        assert client.ask("GET", "/api/frame.jpg", sec_fetch_site=site)[0] == 403

    def test_long_bodies(self, client: Client) -> None:
        assert client.ask("POST", "/api/jog", b" " * (MOST_BYTES + 1))[0] == 413
        with socket.create_connection(("127.0.0.1", client.port), timeout=5) as link:
            link.sendall(
                b"POST /api/jog HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            )
            assert link.recv(20).split()[1] == b"413"


class TestToken:
    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Iterator[Client]:
        with served(tmp_path, token=TOKEN, **NO_BOOT) as client:
            yield client

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": TOKEN},
            {"authorization": "Bearer "},
            {"authorization": "Bearer \xff"},
            {"cookie": f"{COOKIE}={TOKEN}"},
            {"cookie": f"{COOKIE}="},
            {"cookie": "\x80=;;;"},
        ],
    )
    def test_without_it_or_with_another(self, headers: dict[str, str], guarded: Client) -> None:
        for method, path in (
            ("POST", "/api/focus"),
            ("GET", "/api/status"),
            ("POST", "/api/stop"),
            ("GET", "/api/openapi.json"),
        ):
            status, got, _ = guarded.ask(method, path, **headers)
            assert (status, got["www-authenticate"]) == (401, "Bearer")
        assert guarded.bench.opened[0].stage.moves == 0

    def test_with_it(self, guarded: Client) -> None:
        assert guarded.ask("GET", "/api/status", authorization=f"Bearer {TOKEN}")[0] == 200
        assert guarded.ask("GET", "/api/status", authorization=f"bearer {TOKEN}")[0] == 200
        assert guarded.ask("GET", "/api/status", cookie=f"a=b; {COOKIE}={cookie_of(TOKEN)}")[0] == 200

    def test_a_browser_gets_a_cookie_for_it(self, guarded: Client) -> None:
        assert guarded.ask("POST", "/api/login", {"token": "wrong"})[0] == 401
        status, headers, _ = guarded.ask("POST", "/api/login", {"token": TOKEN})
        assert status == 200
        cookie = headers["set-cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert guarded.ask("GET", "/api/status", cookie=cookie.partition(";")[0])[0] == 200

    def test_the_page_itself_is_open(self, guarded: Client) -> None:
        for path in ("/", "/app.js", "/style.css", "/icon.svg"):
            assert guarded.ask("GET", path)[0] == 200


def test_generated_requests(tmp_path: Path) -> None:
    """A part of what `fuzz.py` asks: no server error, nothing not described, no motion beyond limits."""
    found = fuzz(60, tmp_path)
    assert found.code == 0, found.report
    assert found.cases > 100
    low, high = found.limits_steps
    assert found.moves, "some of it moves"
    assert all(low <= end <= high for _, end in found.moves)
