"""Fixtures of the fault tests: those of the end-to-end tests."""

from tests.end_to_end.conftest import baton, client, fleet

__all__ = ["baton", "client", "fleet"]
