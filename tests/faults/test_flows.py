"""Flows whose Redis goes away when their body has returned."""

import logging
from contextlib import ExitStack

import pytest

from orchestrator import Orchestrator, flow
from shared.settings import Settings
from tests.support.fleets import in_thread
from tests.support.proxy import proxy_to
from tests.support.server import RedisServer
from tests.support.waiting import eventually


def test_what_the_body_has_computed_is_not_lost_while_redis_is_away(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with proxy_to(server.port) as proxy:
        settings = Settings.load({}, redis_url=proxy.url, producer_budget=0.3, socket_timeout=0.3, connect_timeout=0.3)
        away = ExitStack()

        @flow
        def computes() -> int:
            away.enter_context(proxy.refuse())
            proxy.cut()
            return 3

        with Orchestrator(settings=settings), away, caplog.at_level(logging.WARNING, "baton.engine"):
            answer = in_thread(computes)
            eventually(lambda: len([row for row in caplog.records if row.module == "gathering"]) >= 2)
            away.close()
            assert answer() == 3
