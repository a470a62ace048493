"""Every setting of the service, read once from the environment, frozen. The provider's names have their own prefix."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api_contracts.metering import Budget, Price
from api_contracts.signing import SigningKeys
from workers.errors import Misconfigured
from workers.reading import JSON_OBJECT, json_object, must_read, read, url, variable_of

DAY_S = 86_400.0
_OTHER_DATABASES: Final = ("postgres", "postgresql+psycopg", "sqlite+pysqlite", "sqlite+aiosqlite")
_AUDIO_PATHS: Final = ("/audio/transcriptions", "/audio/translations")
_MOST_LABELS: Final = 8
_PRICES: Final = json_object('{"model": {"prompt": "0.20", "completion": "0.80"}}')
_BUDGETS: Final = json_object('{"day": {"limit": "25.00", "window_s": 86400, "by": ["tenant"]}}')
OF_COMMANDS: Final = frozenset({"FW_CHAT_MODEL", "FW_EMULATOR_HOST", "FW_EMULATOR_PORT"})
"""Variables with our prefix that no settings object reads: of commands and of the Procfile."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Leases, sweeps and retention. Defaults are the design's (design 2); a demo shortens them openly."""

    lease_s: float = 10.0
    """A lease is good for this long after its last renewal."""
    renew_s: float = 3.0
    """Each process renews all its leases this often."""
    sweep_s: float = 5.0
    """Each process looks for due runs this often, with jitter."""
    lost_message_s: float = 30.0
    """A queued run that nobody took is sent again after this long, then after twice as long, and so on."""
    longest_look_s: float = 600.0
    """The longest pause between two such repeats."""
    live_ttl_s: float = 30 * DAY_S
    """Keys of a run that has not ended live this long after the last sign of life."""
    retention_s: float = 1 * DAY_S
    """Keys of a finished and announced run live this long; SQL keeps the result longer."""


class Settings(BaseSettings):
    """Settings of a worker process. Each field says its variable: `FW_` and its name, or the provider's own."""

    model_config = SettingsConfigDict(
        env_prefix="FW_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    redis_url: Annotated[str, url("redis", "rediss")] = Field(repr=False)
    """Redis of the journals and of Celery's results, `redis://` or `rediss://`."""
    broker_url: Annotated[str, url("redis", "rediss", "amqp", "amqps")] = Field(default="", repr=False)
    """Celery's broker; default: the same Redis."""
    database_url: Annotated[str, url("sqlite", "postgresql", also=_OTHER_DATABASES)] = Field(default="", repr=False)
    """SQL of the finished runs, `sqlite:///path` or `postgresql://`; default: SQLite in the state folder."""
    tools: str = ""
    """Modules to import for their tools, separated by commas."""
    mcp_file: Path | None = None
    """TOML file of the MCP servers whose tools a worker offers; each worker process connects to all of them."""
    credentials: Annotated[dict[str, SecretStr], *JSON_OBJECT] = Field(default_factory=dict)
    """Named provider keys as a JSON object; a request names one by `credential`."""
    credentials_dir: Path | None = None
    """Folder with a file for each further key, named as the credential, such as a mounted secret; read anew when it
    has changed. A file `FIREWORKS_API_KEY` in it stands for that variable."""
    provider_connect_s: float = Field(default=10.0, gt=0, le=300)
    """The provider must be reached within this time; past it an attempt fails with `provider_connect_timeout`."""
    provider_first_token_s: float = Field(default=20.0, gt=0, le=3600)
    """From asking to the first text, thought or call of an answer; past it: `provider_first_token_timeout`."""
    provider_gap_s: float = Field(default=15.0, gt=0, le=3600)
    """Between two chunks of an answer; past it: `provider_gap_timeout`."""
    provider_total_s: float = Field(default=300.0, gt=0, le=86_400)
    """From asking to the end of an answer; past it the run fails with `provider_total_timeout`."""
    provider_file_s: float = Field(default=1800.0, gt=0, le=86_400)
    """From asking for the transcript of a file to its end, the upload included; past it the run fails with
    `provider_total_timeout`."""
    limiter: bool = True
    """Whether workers keep within the provider's limits together: those that are set here, and those that its answers
    state, while they also say that less than half is left. Background requests then leave room for interactive ones."""
    limit_requests: float | None = Field(default=None, gt=0)
    """Requests a minute of each account (credential); default: learned from the provider's answers."""
    limit_prompt_tokens: float | None = Field(default=None, gt=0)
    """Prompt tokens a minute of each account and model; default: learned."""
    limit_uncached_tokens: float | None = Field(default=None, gt=0)
    """The same without what the provider had in its cache; default: learned."""
    limit_generated_tokens: float | None = Field(default=None, gt=0)
    """Generated tokens a minute of each account and model; default: learned."""
    concurrency: int = Field(default=200, ge=1, le=10_000)
    """Runs that one process drives at the same time."""
    lease_s: float = Field(default=10.0, ge=0.5, le=300)
    """A lease is good for this long; a killed worker's runs wait that long for another."""
    renew_s: float = Field(default=0.0, ge=0)
    """How often leases are renewed; default: 0.3 of the lease."""
    sweep_s: float = Field(default=5.0, ge=0.1, le=300)
    """How often each process looks for runs that nobody holds."""
    lost_message_s: float = Field(default=30.0, ge=1)
    """A queued run that nobody took is sent again after this long."""
    most_lives: int = Field(default=10, ge=2, le=10_000)
    """A run that lost its worker so often in a row, without a step that lasts, is failed: it would go on for ever."""
    drain_s: float = Field(default=25.0, ge=0)
    """On SIGTERM, the time in which runs hand over or finish."""
    live_ttl_s: float = Field(default=30 * DAY_S, ge=60)
    """Redis keys of a run that has not ended live this long after the last sign of life."""
    retention_s: float = Field(default=DAY_S, ge=1)
    """Redis keys of a finished run live this long."""
    sql_retention_s: float = Field(default=90 * DAY_S, ge=0)
    """SQL keeps finished runs, and the rows of their batches, for this long; then beat has them purged. 0 keeps them
    for ever. No shorter than `FW_RETENTION_S`."""
    poll_s: float = Field(default=30.0, ge=0.1, le=300)
    """The least time between two looks at a job of the provider; a quiet job is looked at up to ten times less."""
    batch_folder: Path | None = None
    """Files that a batch names are read below this folder only. Default: no file is read, or whoever may submit could
    read what the worker can."""
    private_urls: bool = False
    """Whether a batch may name a URL that leads to a private address, such as 127.0.0.1 or 10.0.0.1."""
    message_bytes: int = Field(default=16 * 1024 * 1024, ge=64 * 1024)
    """A task message with a larger body is refused; our client's are under 64 KB."""
    signing_keys: SecretStr = SecretStr("")
    """Secrets that messages are signed with, separated by commas: the first signs, each is accepted, unsigned messages
    are refused. Default: nothing is signed."""
    monitor_port: int | None = Field(default=None, ge=0, le=65_535)
    """Port of `/live`, `/ready` and `/metrics` of each process; 0 takes a free one; default: none."""
    monitor_host: str = "127.0.0.1"
    """Address of the same; 0.0.0.0 in containers."""
    text_call_models: str = ""
    """Models, separated by commas, that write tool calls as JSON text at times: a whole answer of theirs that is calls
    of the request's tools is taken for them. Not where the request asks for a form of the answer."""
    metric_labels: str = "tenant"
    """Labels of runs that the metrics tell apart, up to 8 separated by commas; `tenant` is the tenant,
    `idempotency_key` an id made of tenant and key. The first 50 values of each count by themselves, the rest as
    `other`."""
    prices: Annotated[dict[str, Price], *_PRICES] = Field(default_factory=dict)
    """What models cost, as a JSON object: of each name the price of a million tokens, `prompt`, `completion`, perhaps
    `cached`, and `priority` with the same for answers of that tier. A model that is not in it has no cost."""
    budgets: Annotated[dict[str, Budget], *_BUDGETS] = Field(default_factory=dict)
    """What chats and cited answers may cost, as a JSON object: of each name the `limit` in the currency of the price
    table, `window_s` (default 86400: a day of UTC), `by`, the labels whose values have a limit of their own (default
    `["tenant"]`, the tenant), and `only`, the labels and values that a run must have to be under it."""
    beat_file: Path | None = None
    """TOML file with the operator's own entries for beat."""
    flower_auth: SecretStr = SecretStr("")
    """`user:password` for Flower, several separated by commas; without it Flower does not start."""
    flower_port: int = Field(default=5555, ge=1, le=65_535)
    """Port of Flower."""
    flower_host: str = "127.0.0.1"
    """Address that Flower listens on; 0.0.0.0 in containers."""
    state_dir: Path | None = None
    """Folder of the embedded parts and of the default SQLite file."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe event that is logged."""

    api_key: SecretStr = Field(default=SecretStr(""), validation_alias=AliasChoices("FIREWORKS_API_KEY", "api_key"))
    """`FIREWORKS_API_KEY`: the key for requests that name no credential."""
    base_url: Annotated[str, url("http", "https", path="https://api.fireworks.ai/inference/v1")] = Field(
        default="https://api.fireworks.ai/inference/v1",
        validation_alias=AliasChoices("FIREWORKS_BASE_URL", "base_url"),
    )
    """`FIREWORKS_BASE_URL`: the inference plane (WIRE 0.3)."""
    api_url: Annotated[str, url("http", "https", no_path=("/v1",))] = Field(
        default="https://api.fireworks.ai", validation_alias=AliasChoices("FIREWORKS_API_URL", "api_url")
    )
    """`FIREWORKS_API_URL`: the control plane of datasets and batch jobs, without `/v1` (WIRE 0.3)."""
    account_id: str = Field(
        default="", pattern=r"^[A-Za-z0-9_-]*$", validation_alias=AliasChoices("FIREWORKS_ACCOUNT_ID", "account_id")
    )
    """`FIREWORKS_ACCOUNT_ID`: whose datasets and jobs they are; batches need it."""
    audio_streaming_url: Annotated[str, url("ws", "wss", no_path=("/audio/transcriptions/streaming",))] = Field(
        default="wss://audio-streaming.api.fireworks.ai/v1",
        validation_alias=AliasChoices("FIREWORKS_AUDIO_STREAMING_URL", "audio_streaming_url"),
    )
    """`FIREWORKS_AUDIO_STREAMING_URL`: live speech-to-text, `ws://` or `wss://`, without the endpoint's own path
    (WIRE 2.1)."""
    audio_url: Annotated[str, url("http", "https", no_path=_AUDIO_PATHS)] = Field(
        default="https://audio-prod.api.fireworks.ai/v1",
        validation_alias=AliasChoices("FIREWORKS_AUDIO_URL", "audio_url"),
    )
    """`FIREWORKS_AUDIO_URL`: speech-to-text of files with `whisper-v3`, without the endpoints' paths (WIRE 2.10)."""
    audio_turbo_url: Annotated[str, url("http", "https", no_path=_AUDIO_PATHS)] = Field(
        default="https://audio-turbo.api.fireworks.ai/v1",
        validation_alias=AliasChoices("FIREWORKS_AUDIO_TURBO_URL", "audio_turbo_url"),
    )
    """`FIREWORKS_AUDIO_TURBO_URL`: the same with `whisper-v3-turbo`."""

    @field_validator("flower_auth")
    @classmethod
    def _are_users(cls, given: SecretStr) -> SecretStr:
        """Say nothing of the value: it is a secret even where it is wrong."""
        users = given.get_secret_value().split(",") if given.get_secret_value() else []
        for user in users:
            name, _, password = user.partition(":")
            if not name.strip() or not password.strip():
                raise ValueError("must be user:password, or several of them separated by commas")
            if not user.isascii():
                raise ValueError("must be plain ASCII")
        return given

    @field_validator("signing_keys")
    @classmethod
    def _are_keys(cls, keys: SecretStr) -> SecretStr:
        SigningKeys.read(keys.get_secret_value())
        return keys

    @field_validator("metric_labels")
    @classmethod
    def _are_few(cls, names: str) -> str:
        if len(_listed(names)) > _MOST_LABELS:
            raise ValueError(f"must be at most {_MOST_LABELS} labels: each of them multiplies the series")
        return names

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.renew_s >= self.lease_s:
            raise ValueError("FW_RENEW_S: must be shorter than FW_LEASE_S, or no lease would last")
        if 0 < self.sql_retention_s < self.retention_s:
            raise ValueError("FW_SQL_RETENTION_S: must be 0, or no shorter than FW_RETENTION_S")
        return self

    @property
    def signing(self) -> SigningKeys:
        """Return the keys that messages are signed with."""
        return SigningKeys.read(self.signing_keys.get_secret_value())

    @property
    def text_calls(self) -> list[str]:
        """Return the names in `text_call_models`."""
        return _listed(self.text_call_models)

    @property
    def told_apart(self) -> list[str]:
        """Return the labels that the metrics tell apart, each once."""
        return _listed(self.metric_labels)

    @property
    def limits(self) -> tuple[float | None, ...]:
        """Return the operator's limits a minute, in the order of the meters (`core.limits.meters`)."""
        return self.limit_requests, self.limit_prompt_tokens, self.limit_uncached_tokens, self.limit_generated_tokens

    @property
    def broker(self) -> str:
        """Return the broker's URL."""
        return self.broker_url or self.redis_url

    @property
    def database(self) -> str:
        """Return the SQL URL."""
        return self.database_url or f"sqlite:///{self.folder / 'runs.sqlite3'}"

    @property
    def folder(self) -> Path:
        """Return the state folder."""
        return self.state_dir or state_folder()

    @property
    def timing(self) -> Timing:
        """Return the kernel's timing."""
        return Timing(
            lease_s=self.lease_s,
            renew_s=self.renew_s or 0.3 * self.lease_s,
            sweep_s=self.sweep_s,
            lost_message_s=self.lost_message_s,
            live_ttl_s=self.live_ttl_s,
            retention_s=self.retention_s,
        )


def _listed(names: str) -> list[str]:
    return list(dict.fromkeys(name for each in names.split(",") if (name := each.strip())))


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """This user's state: `FW_STATE_DIR`, else `fireworks-workers` in `$XDG_STATE_HOME`, else in `~/.local/state`."""
    env = os.environ if environ is None else environ
    if own := env.get("FW_STATE_DIR"):
        return Path(own).expanduser()
    xdg = Path(env.get("XDG_STATE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (xdg if xdg.is_absolute() else Path.home() / ".local" / "state") / "fireworks-workers"


def read_settings(**given: Any) -> Settings:
    """Read the environment; raise `Misconfigured` with one line per fault."""
    return must_read(Settings, known_variables, **given)


def known_variables() -> set[str]:
    """Return every variable that may be set: the service's, the client's, those of commands."""
    from api_contracts.client.settings import ClientSettings

    classes: tuple[type[BaseSettings], ...] = (Settings, ClientSettings)
    return {variable_of(cls, name) for cls in classes for name in cls.model_fields} | OF_COMMANDS


def check_environment() -> None:
    """Raise Misconfigured with one line per fault of any variable of ours, for commands: none needs to be set."""
    from api_contracts.client.settings import ClientSettings

    url = os.environ.get("FW_REDIS_URL") or "redis://not-needed"
    faults = [*read(Settings, known_variables, redis_url=url)[1], *read(ClientSettings, redis_url=url)[1]]
    if faults:
        raise Misconfigured("\n".join(dict.fromkeys(faults)))
