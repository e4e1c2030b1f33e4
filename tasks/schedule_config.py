"""When a recipe is run again by itself."""

from typing import Literal

from pydantic import field_validator

from models.config import Config


class ScheduleConfig(Config):
    """A recurring run of the recipe, kept by the servers of `make up`."""

    cron: str
    """Minute, hour, day of the month, month and day of the week: `0 3 * * 1` is Mondays at three in the morning."""

    timezone: str = "UTC"
    """The place whose clock is meant, summer time included: `Europe/Berlin` for example."""

    flow: Literal["pipeline", "retraining"] = "pipeline"
    """pipeline: the whole way; retraining: first looks whether there is a reason to."""

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        from prefect.schedules import Cron

        try:
            Cron(cron)
        except ValueError:
            raise ValueError(f"{cron!r} is no cron expression, expected five fields, '0 3 * * 1' for example") from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _is_time_zone(cls, timezone: str) -> str:
        from zoneinfo import available_timezones

        if timezone not in available_timezones():
            raise ValueError(f"{timezone!r} is no time zone, expected a name like Europe/Berlin")
        return timezone
