"""Settings from defaults and environment."""

import pytest

from shared.codec import SERIALIZERS
from shared.errors import ConfigError
from shared.settings import Settings, names_a_redis


def test_without_an_environment_everything_has_its_default() -> None:
    settings = Settings.load({})
    assert (settings.lease, settings.beat, settings.crash_budget, settings.begin_ahead) == (30.0, 10.0, 3, 16)


def test_a_variable_sets_its_setting() -> None:
    settings = Settings.load({"BATON_LEASE": "5", "BATON_BEAT": "1.5", "BATON_REAP": "1", "BATON_FUTURE_SWEEP": "2"})
    assert (settings.lease, settings.beat) == (5.0, 1.5)


def test_what_is_given_wins_over_the_environment_and_none_is_not_given() -> None:
    environment = {"BATON_REDIS_URL": "redis://a:1/0"}
    assert Settings.load(environment, redis_url="redis://b:2/0").redis_url == "redis://b:2/0"
    assert Settings.load(environment, redis_url=None).redis_url == "redis://a:1/0"


def test_every_wrong_value_is_named_with_its_source() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load({"BATON_LEASE": "soon", "BATON_CRASH_BUDGET": "0"}, inline_limit=-1)
    lines = str(caught.value).splitlines()
    assert [line.split(" is ")[0] for line in lines] == ["$BATON_LEASE", "$BATON_CRASH_BUDGET", "inline_limit"]
    assert "'soon'" in lines[0]


@pytest.mark.parametrize(
    ("given", "explained"),
    [
        ({"lease": 20, "beat": 10}, "at least 2.5 x beat"),
        ({"reap": 16}, "at most half of lease"),
        ({"future_sweep": 31}, "at most lease"),
        ({"watchdog": 37.9}, r"watchdog \(37.9 s\) must be at least twice the longest wait of a call \(19 s"),
        ({"watchdog": 60, "idle_wait": 29}, r"longest wait of a call \(31 s"),
    ],
)
def test_settings_that_do_not_fit_together_are_explained(given: dict[str, float], explained: str) -> None:
    with pytest.raises(ConfigError, match=explained):
        Settings.load({}, **given)


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "0"])
def test_a_duration_is_finite_and_positive(value: str) -> None:
    with pytest.raises(ConfigError, match="BATON_SOCKET_TIMEOUT"):
        Settings.load({"BATON_SOCKET_TIMEOUT": value})


def test_a_retention_of_less_than_a_minute_is_refused() -> None:
    with pytest.raises(ConfigError, match="retention_finished"):
        Settings.load({}, retention_finished=59)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="leese"):
        Settings.load({}, leese=3)


def test_the_environment_names_a_redis_or_not() -> None:
    assert (names_a_redis({}), names_a_redis({"BATON_REDIS_URL": "redis://h/0"})) == (False, True)


def test_results_are_written_by_any_serializer_that_the_codec_has_and_by_no_other() -> None:
    chosen = [Settings.load({"BATON_RESULT_SERIALIZER": name}).result_serializer for name in SERIALIZERS]
    assert (chosen, Settings.load({}).result_serializer) == (list(SERIALIZERS), "msgpack")
    with pytest.raises(ConfigError, match=r"\$BATON_RESULT_SERIALIZER is 'pickle'"):
        Settings.load({"BATON_RESULT_SERIALIZER": "pickle"})
