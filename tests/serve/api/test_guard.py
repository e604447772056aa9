import httpx
import openai
import pytest
from talking_server import running, small_model

from hornbook.errors import HornbookError
from hornbook.infer.language_model import LocalModel
from hornbook.serve.api.guard import check_exposure

TOKEN = "a-token-of-24-characters"
PAGE = "https://notes.example"


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return small_model()


def test_only_the_servers_own_names_are_answered(model: LocalModel) -> None:
    """A page whose domain was pointed at 127.0.0.1 sends its own name as Host."""
    with running(model) as server:
        port = server.url.rpartition(":")[2]
        for name, status in (
            (f"127.0.0.1:{port}", 200),
            (f"LOCALHOST:{port}", 200),
            (f"[::1]:{port}", 200),
            (f"evil.example:{port}", 403),
            ("127.0.0.1.evil.example", 403),
            ("evil.example@127.0.0.1", 403),
            ("[", 403),
            ("", 403),
        ):
            answer = httpx.get(f"{server.url}/v1/models", headers={"host": name})
            assert answer.status_code == status, name
        assert answer.json()["error"]["code"] == "host_not_allowed"


def test_pages_of_other_origins_are_refused_unless_named(model: LocalModel) -> None:
    with running(model, origins=(PAGE,)) as server:
        for origin, status in (
            (server.url, 200),
            (PAGE, 200),
            ("https://evil.example", 403),
            (f"http://evil.example:{server.url.rpartition(':')[2]}", 403),
            ("null", 403),
            (PAGE.replace("https", "http"), 403),
        ):
            answer = httpx.get(f"{server.url}/v1/models", headers={"origin": origin})
            assert answer.status_code == status, origin
            assert answer.headers.get("access-control-allow-origin") == (PAGE if origin == PAGE else None)
        asks = {"origin": PAGE, "access-control-request-method": "POST"}
        allowed = httpx.options(f"{server.url}/v1/completions", headers=asks)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == PAGE
        refused = httpx.options(
            f"{server.url}/v1/completions", headers={**asks, "origin": "https://evil.example"}
        )
        assert refused.status_code == 403


def test_a_token_is_asked_for_everywhere_but_health(model: LocalModel) -> None:
    with running(model, token=TOKEN) as server:
        assert [m.id for m in server.client(api_key=TOKEN).models.list()] == ["fox"]
        with pytest.raises(openai.AuthenticationError) as caught:
            server.client(api_key="a-token-of-24-charactersX").models.list()
        assert caught.value.code == "invalid_api_key"
        for path in ("/v1/models", "/v1/completions", "/v1/nothing", "/"):
            for headers in ({}, {"authorization": TOKEN}, {"authorization": "Basic " + TOKEN}):
                assert httpx.get(server.url + path, headers=headers).status_code == 401, path
        assert httpx.get(server.url + "/health").json()["status"] == "ok"


def test_beyond_loopback_a_token_is_needed_and_it_must_be_long() -> None:
    for host in ("127.0.0.1", "127.3.2.1", "localhost", "::1"):
        check_exposure(host, None)
    for host in ("0.0.0.0", "::", "192.168.1.2", "my-laptop", ""):
        with pytest.raises(HornbookError, match="HORNBOOK_TOKEN"):
            check_exposure(host, None)
        check_exposure(host, TOKEN)
    with pytest.raises(HornbookError, match="at least 16"):
        check_exposure("0.0.0.0", "short")
