"""The one base of every configuration object in the project."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen set of named values that refuses a key it does not know.

    The docstring under each attribute is its help text: it reaches the JSON schema and, through it,
    the run form of the Prefect page. Fields are not strict, because YAML reads ``1e-4`` as a string.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
