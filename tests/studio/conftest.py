"""A home with a finished run whose every text is hostile, and a client that the studio's door lets in."""

import importlib.util

import pytest
from studio_home import HostileRun, make_home

if importlib.util.find_spec("fastapi") is None:  # the extra `dev` has it
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> HostileRun:
    return make_home(tmp_path_factory.mktemp("studio") / "runs")


@pytest.fixture(scope="session")
def client(hostile):
    from starlette.testclient import TestClient

    from hornbook.studio.app import create_app
    from hornbook.studio.settings import StudioSettings

    app = create_app(StudioSettings(home=hostile.home))
    with TestClient(app, base_url="http://127.0.0.1:8017", headers={"accept": "text/html"}) as made:
        yield made
