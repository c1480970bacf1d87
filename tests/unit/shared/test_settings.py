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


@pytest.mark.parametrize("name", ["retention_finished", "retention_failed", "retention_cancelled", "result_ttl"])
@pytest.mark.parametrize("seconds", [59, 0, -1])
def test_a_retention_of_less_than_a_minute_is_refused(name: str, seconds: int) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {seconds}: .* greater than or equal to 60"):
        Settings.load({}, **{name: seconds})


def test_a_variable_that_is_no_setting_belongs_to_others() -> None:
    assert Settings.load({"BATON_MODULES": "shop", "BATON_LEESE": "3"}) == Settings()


@pytest.mark.parametrize("name", ["signing", "encryption"])
def test_what_is_not_built_is_refused_where_somebody_relies_on_it(name: str) -> None:
    variable = f"BATON_{name.upper()}"
    with pytest.raises(ConfigError, match=rf"\${variable} is 'require': .*{name} is not built yet"):
        Settings.load({variable: "require"})
    assert Settings.load({variable: "off"}) == Settings()


# --- the link ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@cache.example:6379/0",
        "redis://somebody:secret@10.0.0.7/0",
        "redis://[2001:db8::7]/0?password=secret",
        "redis://cache.example/0?password=secret",
        "REDIS://:secret@cache.example/0",
        "redis://:secret@127.0.0.1.example/0",
        "redis://:secret@/0?host=cache.example",
    ],
)
def test_a_password_is_sent_to_another_machine_only_where_that_is_allowed_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"rediss://.*BATON_ALLOW_PLAIN_PASSWORD") as caught:
        Settings.load({"BATON_REDIS_URL": url})
    assert "secret" not in str(caught.value)
    assert Settings.load({"BATON_REDIS_URL": url, "BATON_ALLOW_PLAIN_PASSWORD": "1"}).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@127.0.0.1:6379/0",
        "redis://:secret@127.8.9.10/0",
        "redis://:secret@localhost/0",
        "redis://:secret@[::1]/0",
        "rediss://:secret@cache.example/0",
        "unix://:secret@/run/redis.sock",
        "redis://cache.example/0",
        "memory://",
    ],
)
def test_a_password_that_is_encrypted_or_stays_here_needs_no_leave(url: str) -> None:
    assert Settings.load({"BATON_REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(
    "option",
    [
        "ssl_cert_reqs=none",
        "ssl_cert_reqs=NONE",
        "ssl_check_hostname=False",
        "ssl_cert_reqs=none&ssl_cert_reqs=required",
    ],
)
def test_a_certificate_goes_unchecked_only_where_that_is_allowed_by_name(option: str) -> None:
    url = f"rediss://:secret@cache.example/0?{option}"
    with pytest.raises(ConfigError, match=r"ssl_ca_certs.*BATON_ALLOW_UNVERIFIED_TLS") as caught:
        Settings.load({"BATON_REDIS_URL": url})
    assert "secret" not in str(caught.value)
    assert Settings.load({"BATON_REDIS_URL": url, "BATON_ALLOW_UNVERIFIED_TLS": "true"}).allow_unverified_tls


@pytest.mark.parametrize("option", ["", "?ssl_cert_reqs=required", "?ssl_ca_certs=/etc/ca.pem"])
def test_a_certificate_that_is_checked_needs_no_leave(option: str) -> None:
    assert not Settings.load({"BATON_REDIS_URL": f"rediss://cache.example/0{option}"}).allow_unverified_tls


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
