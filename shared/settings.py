"""The settings of a process: defaults, and over them the environment (`$BATON_LEASE` for `lease`). No other source.

Durations are seconds, sizes are bytes.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shared.errors import ConfigError
from shared.links import link_to

PREFIX = "BATON_"

WAIT_SLACK = 2.0
"""Seconds that a wait in Redis may take longer than was asked for, before it counts as lost."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Retention = Annotated[int, Field(ge=60)]


class Settings(BaseModel):
    """What can be set. Every field is also an environment variable, upper case behind `BATON_`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    redis_url: str = "redis://127.0.0.1:6379/0"
    allow_plain_password: bool = False
    allow_unverified_tls: bool = False

    lease: Seconds = 30.0
    beat: Seconds = 10.0
    reap: Seconds = 5.0
    reconcile: Seconds = 5.0
    crash_budget: int = Field(default=3, ge=1)
    cancel_grace: Seconds = 5.0
    timeout_grace: Seconds = 5.0
    cancel_patience: Seconds = 300.0
    hook_timeout: Seconds = 60.0
    unknown_task_grace: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    stop_grace: float = Field(default=25.0, ge=0, allow_inf_nan=False)
    watchdog: Seconds = 60.0

    begin_ahead: int = Field(default=16, ge=1, le=100)
    busy_after: Seconds = 0.005
    idle_wait: Seconds = 2.0
    promote: Seconds = 1.5

    socket_timeout: Seconds = 2.0
    connect_timeout: Seconds = 2.0
    producer_budget: Seconds = 5.0
    worker_budget: Seconds = 15.0
    future_sweep: Seconds = 5.0
    ping: Seconds = 10.0
    pong: Seconds = 5.0

    retention_finished: Retention = 86_400
    retention_failed: Retention = 7 * 86_400
    retention_cancelled: Retention = 86_400
    result_ttl: Retention = 86_400

    max_parameters: int = Field(default=256 * 1024, ge=1024, le=1024 * 1024)
    max_result: int = Field(default=1024 * 1024, ge=1024, le=10 * 1024 * 1024)
    inline_limit: int = Field(default=64 * 1024, ge=0)
    task_retries: int = Field(default=0, ge=0)
    result_serializer: Literal["msgpack", "json", "compressed/msgpack", "compressed/json"] = "msgpack"
    disable_caching: bool = False
    refresh_cache: bool = False

    signing: str = "off"
    encryption: str = "off"

    @field_validator("signing", "encryption")
    @classmethod
    def _is_off(cls, value: str, info: ValidationInfo) -> str:
        # Whoever asks for it relies on it: without it nothing may run.
        if value != "off":
            raise ValueError(f"{info.field_name} is not built yet: this Baton starts only where it is 'off'")
        return value

    @model_validator(mode="after")
    def _link_is_safe(self) -> Self:
        link = link_to(self.redis_url)
        if link.shows_password and not self.allow_plain_password:
            raise ValueError(
                "redis_url sends a password unencrypted to another machine: use rediss://, or, where the network is "
                f"trusted, set ${PREFIX}ALLOW_PLAIN_PASSWORD=1"
            )
        if link.trusts_anybody and not self.allow_unverified_tls:
            raise ValueError(
                "redis_url asks for TLS without checking who answers (ssl_cert_reqs or ssl_check_hostname): name the "
                f"authority with ssl_ca_certs, or set ${PREFIX}ALLOW_UNVERIFIED_TLS=1"
            )
        return self

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.lease < 2.5 * self.beat:
            raise ValueError(
                f"lease ({self.lease:g} s) must be at least 2.5 x beat ({self.beat:g} s): one lost beat may not end it"
            )
        if self.reap > self.lease / 2:
            raise ValueError(f"reap ({self.reap:g} s) must be at most half of lease ({self.lease:g} s)")
        if self.future_sweep > self.lease:
            raise ValueError(f"future_sweep ({self.future_sweep:g} s) must be at most lease ({self.lease:g} s)")
        longest = max(self.worker_budget + self.connect_timeout + self.socket_timeout, self.idle_wait + WAIT_SLACK)
        if self.watchdog < 2 * longest:
            raise ValueError(
                f"watchdog ({self.watchdog:g} s) must be at least twice the longest wait of a call ({longest:g} s: "
                "worker_budget + connect_timeout + socket_timeout, or idle_wait + 2): who waits is not stuck"
            )
        return self

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Settings from `given`, else from the environment, else the defaults. None counts as not given.

        Variables with the prefix that are no setting belong to other parts of Baton and are left alone.

        Raises:
            ConfigError: a value is wrong; names every wrong one with its source.
        """
        given = {name: value for name, value in given.items() if value is not None}
        source = os.environ if environment is None else environment
        found = {name: source[PREFIX + name.upper()] for name in cls.model_fields if PREFIX + name.upper() in source}
        try:
            return cls.model_validate({**found, **given})
        except ValidationError as error:
            raise ConfigError("\n".join(_problem(detail, given) for detail in error.errors())) from None


def names_a_redis(environment: Mapping[str, str] = os.environ) -> bool:
    """True if the environment says which Redis to use."""
    return f"{PREFIX}REDIS_URL" in environment


def _problem(detail: Any, given: Mapping[str, Any]) -> str:
    if not detail["loc"]:
        return str(detail["msg"]).removeprefix("Value error, ")
    name = str(detail["loc"][0])
    source = name if name in given else f"${PREFIX}{name.upper()}"
    return f"{source} is {detail['input']!r}: {detail['msg']}"
