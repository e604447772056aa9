"""Who comes in: loopback by name, the studio's own pages, holders of the token; and with how much."""

import asyncio

import pytest
from starlette.testclient import TestClient

from hornbook.errors import HornbookError
from hornbook.studio.app import create_app
from hornbook.studio.guard import Guard
from hornbook.studio.settings import StudioSettings

TOKEN = "a-long-enough-secret"


@pytest.fixture
def locked(hostile):
    app = create_app(StudioSettings(home=hostile.home, host="0.0.0.0", token=TOKEN, names=("lab.example",)))
    with TestClient(app, base_url="http://192.168.1.7:8017", follow_redirects=False) as made:
        yield made


def test_listening_to_others_needs_a_token(tmp_path):
    with pytest.raises(HornbookError, match="Give it a token"):
        StudioSettings(home=tmp_path, host="0.0.0.0")
    with pytest.raises(HornbookError, match="at least 16"):
        StudioSettings(home=tmp_path, token="short")
    for host in ("127.0.0.1", "localhost", "::1", "127.8.9.1"):
        StudioSettings(home=tmp_path, host=host)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8017", "127.0.0.1.evil.example", "8.8.8.8", ""]
)
def test_a_name_of_another_site_is_refused(client, host):
    assert client.get("/runs", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8017", "[::1]:8017", "LOCALHOST"])
def test_this_machines_names_are_let_in(client, host):
    assert client.get("/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:8017", "sec-fetch-site": "cross-site"},
    ],
)
def test_a_post_from_another_site_is_refused_and_starts_nothing(client, hostile, headers):
    before = list((hostile.home / ".studio").rglob("job.json")) if (hostile.home / ".studio").exists() else []
    answer = client.post("/papers/start", data={"recipe": "cntk", "scale": "smoke"}, headers=headers)
    assert answer.status_code == 403
    after = list((hostile.home / ".studio").rglob("job.json")) if (hostile.home / ".studio").exists() else []
    assert before == after


def test_a_post_from_the_studios_own_page_is_heard(client):
    own = {"origin": "http://127.0.0.1:8017", "sec-fetch-site": "same-origin"}
    answer = client.post("/papers/start", data={"recipe": "no-such", "scale": "smoke"}, headers=own)
    assert answer.status_code == 404
    assert "no recipe" in answer.text


def test_too_large_a_body_is_refused_whether_or_not_it_says_so(hostile):
    app = create_app(StudioSettings(home=hostile.home, upload_bytes=1000))
    with TestClient(app, base_url="http://127.0.0.1:8017") as made:
        assert made.post("/papers/start", content=b"x" * 1001).status_code == 413

        def pieces():
            for _ in range(100):
                yield b"flags=" + b"x" * 100

        headers = {"content-type": "application/x-www-form-urlencoded"}
        assert made.post("/papers/start", content=pieces(), headers=headers).status_code == 413
        assert made.get("/runs", headers={"content-length": "nonsense"}).status_code == 413


def test_without_the_token_nothing_is_shown(locked):
    for path in (
        "/",
        "/runs",
        "/static/studio.css",
        "/runs/hostile-quick/curves.json",
        "/?token=wrong-secret-x",
    ):
        answer = locked.get(path)
        assert answer.status_code == 401, path
        assert "hostile" not in answer.text
    assert locked.post("/papers/start").status_code == 401


def test_the_token_in_the_address_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(locked):
    answer = locked.get(f"/runs?token={TOKEN}&x=1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/runs?x=1"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert locked.get("/runs").status_code == 200  # the client kept the cookie
    locked.cookies.clear()
    assert locked.get("/runs").status_code == 401
    assert locked.get("/runs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert locked.get("/runs", headers={"authorization": "Bearer wrong-secret-xyz"}).status_code == 401


def test_the_way_in_never_leads_to_another_site(tmp_path):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "//evil.example/x",
        "query_string": f"token={TOKEN}".encode(),
        "headers": [(b"host", b"127.0.0.1")],
    }
    guard = Guard(None, StudioSettings(home=tmp_path, token=TOKEN))
    asyncio.run(guard(scope, None, send))
    assert sent[0]["status"] == 303
    assert dict(sent[0]["headers"])[b"location"] == b"/evil.example/x"


def test_with_a_token_addresses_and_given_names_are_known_and_others_are_not(locked):
    bearer = {"authorization": f"Bearer {TOKEN}"}
    for host, status in (("192.168.1.7", 200), ("lab.example", 200), ("other.example", 421)):
        assert locked.get("/runs", headers={**bearer, "host": host}).status_code == status


def test_every_page_may_run_only_our_scripts_and_load_nothing_from_elsewhere(client):
    for path in ("/papers", "/runs", "/machine", "/no-such-page"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "http://" not in answer.text
        assert "https://" not in answer.text
