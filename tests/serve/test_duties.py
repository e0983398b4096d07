"""What one gateway does for all: due times, and webhooks that are signed, sent again, and go
nowhere that they should not."""

import base64
import hashlib
import hmac
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from buckler.errors import PolicyError, UsageError
from buckler.ops.review import Policy
from buckler.serve.duties import Duties
from buckler.serve.webhook import Webhook, is_public, webhook_of
from buckler.store import outbox
from buckler.store.engine import Store, open_store
from buckler.store.shared import set_policy
from buckler.store.tables import outbox as messages
from buckler.store.tables import reviews
from tests.store.made import add, item

from .stored import opened, rows, url_in
from .tiny import BLANK, CLASSIFY, body, settings, wait_for

SECRETS = (b"a" * 32, b"b" * 32)
GIVEN = ",".join(f"whsec_{base64.b64encode(each).decode()}" for each in SECRETS)


@dataclass
class Receiver:
    """A server on this machine that answers as told, and remembers."""

    url: str
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@contextmanager
def receiving(certificate: Path | None = None) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.got.append((headers, content))
            self.send_response(found.statuses.pop(0) if found.statuses else 204)
            self.send_header("location", "http://127.0.0.1:1/")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}/hook?x=1")
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        found.url = f"https://localhost:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One that only who is told so trusts, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = tmp_path / "localhost.pem"
    given = (
        "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", made, "-out", tmp_path / "cert"]
    subprocess.run(["openssl", "req", *given.split(), *files], check=True, capture_output=True)
    made.write_text(made.read_text() + (tmp_path / "cert").read_text())
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(url_in(tmp_path))
    yield made
    made.close()


def put(store: Store, count: int = 1) -> None:
    with store.write() as connection:
        for number in range(count):
            outbox.put(connection, 0.0, "review.decided", {"id": str(number)})


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_message_is_signed_so_that_its_receiver_can_check_it(
    store: Store, receiver: Receiver
) -> None:
    put(store)
    duties = Duties(store, Webhook(receiver.url, SECRETS, True), None, clock=Clock())
    assert duties.round()
    ((headers, content),) = receiver.got
    assert json.loads(content) == {
        "type": "review.decided",
        "timestamp": "1970-01-01T00:00:00+00:00",
        "data": {"id": "0"},
    }
    assert headers["webhook-timestamp"] == "1000"
    what = f"{headers['webhook-id']}.1000.".encode() + content
    expected = [
        "v1," + base64.b64encode(hmac.new(each, what, hashlib.sha256).digest()).decode()
        for each in SECRETS
    ]
    assert headers["webhook-signature"].split(" ") == expected
    duties.round()
    assert len(receiver.got) == 1
    assert (duties.sent, duties.failed) == (1, 0)


def test_what_is_not_taken_is_sent_again_ever_later_and_then_given_up(
    store: Store, receiver: Receiver
) -> None:
    put(store)
    clock = Clock()
    said: list[dict[str, Any]] = []
    duties = Duties(store, Webhook(receiver.url, SECRETS, True), said.append, clock=clock)
    receiver.statuses += [500, 302, 404] + [503] * 9
    waits = []
    for _ in range(12):
        duties.round()
        tries = len(receiver.got)
        (row,) = rows(store, messages)
        waits.append(row["next_try"] - clock.now)
        clock.now = row["next_try"] - 1
        duties.round()
        assert len(receiver.got) == tries, "not before its time"
        clock.now += 1
    assert waits[:4] == [10, 20, 40, 80]
    assert len(receiver.got) == 12
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    (row,) = rows(store, messages)
    assert row["given_up"] is not None
    clock.now += 1e6
    duties.round()
    assert len(receiver.got) == duties.failed == 12
    assert said[1]["error"] == "the webhook's receiver answered with status 302"


def test_only_one_of_all_gateways_sends(store: Store, receiver: Receiver) -> None:
    put(store, 12)
    clock = Clock()
    hook = Webhook(receiver.url, SECRETS, True)
    one, other = (Duties(store, hook, None, clock=clock) for _ in range(2))
    assert one.round()
    assert not other.round()
    assert len(receiver.got) == 12
    clock.now += 61
    assert other.round(), "one died"
    assert not one.round()
    assert len(receiver.got) == 12


def test_who_is_due_is_looked_after_without_a_webhook(store: Store) -> None:
    policy = Policy(due_s=60.0)
    set_policy(store, policy, 0.0, "test")
    add(store, item(1), now=1000.0, policy=policy)
    clock = Clock()
    duties = Duties(store, None, None, clock=clock)
    duties.round()
    assert rows(store, reviews)[0]["level"] == 0
    clock.now += 61
    duties.round()
    assert rows(store, reviews)[0]["level"] == 1
    assert [row["kind"] for row in rows(store, messages)] == ["review.due"]
    assert rows(store, messages)[0]["tries"] == 0


def test_a_receiver_that_is_not_there_or_not_allowed_any_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    clock = Clock()
    said: list[dict[str, Any]] = []
    duties = Duties(store, Webhook("http://127.0.0.1:1/", SECRETS, True), said.append, clock=clock)
    duties.round()
    assert "cannot be reached" in said[0]["error"]
    clock.now += 100
    moved = Duties(
        store, Webhook("https://localhost/", SECRETS), said.append, clock=lambda: clock.now + 61
    )
    moved.round()
    assert "is at an address that is not public" in said[1]["error"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff0e::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::808:808", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) == public


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://169.254.169.254/latest",
        "https://2130706433/",
        "https://0x7f.1/",
    ],
)
def test_no_webhook_to_what_only_this_machine_can_reach(url: str) -> None:
    with pytest.raises(PolicyError, match="BUCKLER_WEBHOOK_PRIVATE=true"):
        webhook_of(settings(store="x", webhook=url, webhook_secret=GIVEN))


@pytest.mark.parametrize(
    ("url", "secret", "sentence"),
    [
        ("http://example.com/", GIVEN, "the webhook must be https://HOST/PATH"),
        ("https://u:p@example.com/", GIVEN, "without a user"),
        ("ftp://example.com/", GIVEN, "the webhook must be"),
        ("https://example.com:99999/", GIVEN, "the webhook must be"),
        ("https:///x", GIVEN, "the webhook must be"),
        ("https://example.com/", "", "the webhook's secret must be whsec_"),
        ("https://example.com/", "whsec_YQ==", "24 bytes or more"),
        ("https://example.com/", "whsec_*", "the webhook's secret must be"),
    ],
)
def test_a_webhook_that_cannot_be(url: str, secret: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        webhook_of(settings(store="x", webhook=url, webhook_secret=secret))


def test_a_name_is_looked_up_once_and_that_address_is_asked(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name whose address changes between the look and the call gains nothing."""
    put(store)
    asked: list[str] = []
    real = socket.getaddrinfo

    def changing(host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "hook.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    port = receiver.url.split(":")[2].split("/")[0]
    hook = Webhook(f"http://hook.example:{port}/", SECRETS, True)
    Duties(store, hook, None, clock=Clock()).round()
    assert asked.count("hook.example") == 1
    assert receiver.got[0][0]["host"] == f"hook.example:{port}"


def test_a_receiver_must_prove_who_it_is(
    store: Store, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    clock = Clock()
    said: list[dict[str, Any]] = []
    with receiving(certificate) as receiver:
        hook = Webhook(receiver.url, SECRETS, True)
        duties = Duties(store, hook, said.append, clock=clock)
        duties.round()
        assert "certificate verify failed" in said[0]["error"]
        assert receiver.got == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        clock.now += 20
        duties.round()
        assert receiver.got[0][0]["host"] == receiver.url.split("/")[2]
        put(store)
        other = Webhook(receiver.url.replace("localhost", "127.0.0.1"), SECRETS, True)
        moved = Duties(store, other, said.append, clock=lambda: clock.now + 61)
        moved.round()
        assert "certificate verify failed" in said[1]["error"], "of another name"


def test_a_decision_reaches_the_receiver(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = {"every_s": 0.05, "clock": time.time}
    monkeypatch.setattr("buckler.serve.duties.Duties.__init__.__kwdefaults__", soon)
    given = {"webhook": receiver.url, "webhook_secret": GIVEN, "webhook_private": True}
    with opened(tmp_path, **given) as gateway:
        gateway.client.post(CLASSIFY, json=body(BLANK))
        taken = gateway.client.post("/v1/reviews/next").json()
        said = {"lease_id": taken["lease_id"], "version": taken["version"], "kind": "accept"}
        gateway.client.post(f"/v1/reviews/{taken['id']}/decision", json=said)
        wait_for(lambda: bool(receiver.got))
        assert json.loads(receiver.got[0][1])["data"]["id"] == taken["id"]
        wait_for(lambda: "buckler_webhooks_sent_total 1.0" in gateway.client.get("/metrics").text)


def test_what_a_rollout_tells_is_a_ticket_and_told_once(tmp_path: Path, receiver: Receiver) -> None:
    given = {"alert_webhook": receiver.url, "webhook_private": True}
    with opened(tmp_path, **given) as gateway:
        facts = {"rollout": "r1", "candidate": "c" * 64, "says": "rollout rolled back: it is bad"}
        for _ in range(2):  # by a sender that died before it said so
            with gateway.store.write() as connection:
                outbox.put(connection, 0.0, "rollout.alert", facts)
        gateway.app.state.stored.duties.round()
        (alert,) = gateway.client.get("/v1/alerts").json()["alerts"]
        assert (alert["tier"], alert["title"]) == ("ticket", facts["says"])
        assert alert["runbook"].endswith("monitoring.md#rollout")
        wait_for(lambda: receiver.got)
        assert [json.loads(content)["status"] for _, content in receiver.got] == ["firing"]
