"""`baton config show`: every setting with its source, no secret, and a hint where a variable was misspelled."""

import json

import pytest

from shared.settings import Settings
from tests.support.command_line import called


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BATON_{name.upper()}", raising=False)


def shown(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[dict[str, dict[str, object]], str]:
    """The settings by name, and what was said beside."""
    assert called(*options, "config", "show", "--json") == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_every_setting_is_shown_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    expected = {name: {"value": value, "source": "default"} for name, value in Settings().model_dump().items()}
    assert shown(capsys) == (expected, "")


def test_a_setting_of_the_environment_names_its_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATON_LEASE", "60")
    assert shown(capsys)[0]["lease"] == {"value": 60.0, "source": "$BATON_LEASE"}


def test_the_url_of_the_command_line_goes_before_that_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATON_REDIS_URL", "redis://env:6379/0")
    before = shown(capsys)[0]["redis_url"]
    after = shown(capsys, "--url", "redis://given:6379/0")[0]["redis_url"]
    assert (before, after) == (
        {"value": "redis://env:6379/0", "source": "$BATON_REDIS_URL"},
        {"value": "redis://given:6379/0", "source": "--url"},
    )


@pytest.mark.parametrize(
    ("url", "visible"),
    [
        ("redis://somebody:secret@host/0", "redis://somebody:***@host/0"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("redis://secret@host/0", "redis://***@host/0"),
        ("redis://a:s@ecret@host/0", "redis://a:***@host/0"),
        ("rediss://host/0?password=secret", "rediss://host/0"),
        ("unix://a:secret@/run/redis.sock?db=1", "unix://a:***@/run/redis.sock"),
    ],
)
def test_no_password_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str, visible: str
) -> None:
    monkeypatch.setenv("BATON_ALLOW_PLAIN_PASSWORD", "1")
    assert shown(capsys, "--url", url)[0]["redis_url"]["value"] == visible


def test_a_misspelled_variable_is_hinted_at_and_others_are_left_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BATON_LAESE", "BATON_SOMETHING_ELSE", "BATON_MODULES"):
        monkeypatch.setenv(name, "1")
    assert shown(capsys)[1] == "BATON_LAESE is no setting. Did you mean BATON_LEASE?\n"
