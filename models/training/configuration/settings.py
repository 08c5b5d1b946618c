"""Files of settings: YAML with groups of options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from eqlib.options import Settings
from eqlib.usage import UsageError

GROUPS = ("network", "data", "training")


def check_groups(content: Mapping[str, Any], where: str) -> None:
    """Raise a `UsageError` where a group of options is anything but names with values."""
    for group in GROUPS:
        if not isinstance(content.get(group, {}), Mapping):
            raise UsageError(
                f"{where}: {group}: expected names with values, got {content[group]!r}"
            )


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        UsageError: the file cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is damaged or not YAML: {reason}") from error


class _Loader(yaml.SafeLoader):
    """Reads ``no`` as a word, as YAML 1.2 does: it is a mode of compilation."""


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if first in "tTfF" or not entry[0].endswith(":bool")]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def merge(base: Settings, settings: Settings) -> dict[str, dict[str, Any]]:
    """Return both settings together; where both have a value, the second's counts."""
    groups = [*base, *(group for group in settings if group not in base)]
    return {group: {**base.get(group, {}), **settings.get(group, {})} for group in groups}
