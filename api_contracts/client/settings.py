"""What a producer must know: where Redis, the broker and, if it reads results from it, SQL are."""

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api_contracts.signing import SigningKeys


class ClientSettings(BaseSettings):
    """Read from the environment, or given. The same variables as the service's."""

    model_config = SettingsConfigDict(
        env_prefix="FW_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    redis_url: str = Field(repr=False)
    """Redis of the journals."""
    broker_url: str = Field(default="", repr=False)
    """Celery's broker; default: the same Redis."""
    database_url: str = Field(default="", repr=False)
    """SQL of the finished runs; without it results are read from Redis, for as long as it keeps them."""
    lost_message_s: float = Field(default=30.0, ge=1)
    """A run that no worker took after this long is sent again by a worker's sweep."""
    live_ttl_s: float = Field(default=30 * 86_400.0, ge=60)
    """Redis keys of a run that never ends live this long."""
    outage_s: float = Field(default=60.0, ge=0)
    """A follower survives a Redis outage of this length, then raises."""
    tenant: str = "default"
    """Tenant of requests that name none."""
    signing_keys: SecretStr = SecretStr("")
    """Secrets that the workers accept, separated by commas; the first signs this client's messages."""

    @field_validator("signing_keys")
    @classmethod
    def _are_keys(cls, keys: SecretStr) -> SecretStr:
        SigningKeys.read(keys.get_secret_value())
        return keys

    @property
    def signing(self) -> SigningKeys:
        """Return the keys."""
        return SigningKeys.read(self.signing_keys.get_secret_value())

    @property
    def broker(self) -> str:
        """Return the broker's URL."""
        return self.broker_url or self.redis_url
