"""YAML that people write: without objects of Python, every key once, and each fault in one line."""

from pathlib import Path
from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key that stands twice: the first value would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; ConstructorError names the line of a second key."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, shown: str = "", missing: str = "there is no such file", loader: Any = Loader) -> Any:
    """Return what a file says.

    Args:
        path: the file, in UTF-8.
        shown: how messages call it; its path by default.
        missing: what is said where it is not there.
        loader: a subclass of `Loader`, for a file with tags of its own.

    Raises:
        ValueError: in one line that names the file, and line and column where there are some.
    """
    shown = shown or str(path)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except FileNotFoundError:
        raise ValueError(f"{shown}: {missing}") from None
    except OSError as error:
        raise ValueError(f"{shown}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        if isinstance(error, yaml.constructor.ConstructorError):  # YAML, with something in it that is not taken
            raise ValueError(f"{shown}:{where}: {problem}") from None
        raise ValueError(f"{shown}:{where} is not YAML ({problem})") from None
    except RecursionError:
        raise ValueError(f"{shown}: is nested too deeply") from None
    except (ValueError, TypeError, ArithmeticError) as error:  # a date or a number that is none, text that is not UTF-8
        raise ValueError(f"{shown}: is not YAML ({' '.join(str(error).split())})") from None
