"""Options: the arguments of classes and commands, with values from YAML or the command line."""

import argparse
import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace

from eqlib.usage import UsageError, unknown

Schema = Mapping[str, type]
"""Groups of options by name; the arguments of each class are the options of its group."""
Settings = Mapping[str, Mapping[str, Any]]
"""Values of options, by group and name."""

_TYPES = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Writes ``--option TYPE  what it is (default: value)`` and keeps the lines of running text."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36, width=100)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        kind: str = self._get_type_str(action) or "value"
        return kind.removesuffix(" | null").upper()

    def _get_help_string(self, action: argparse.Action) -> str:
        text = (action.help or "").rstrip(".")
        optional = "." not in action.dest and action.default in (None, False, argparse.SUPPRESS)
        return text if optional or "(default: " in text else f"{text} (default: %(default)s)"


def make_parser(prog: str, usage: str, description: str, epilog: str = "") -> ArgumentParser:
    """Return a parser without options, to be used with `parse_arguments`.

    Args:
        prog: the command, such as ``eqlib evaluate``.
        usage: its arguments in short.
        description: what the help says before the options.
        epilog: what it says after them.
    """
    return ArgumentParser(
        prog=prog,
        usage=f"{prog} {usage}",
        description=description,
        epilog=epilog,
        formatter_class=_HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


def add_options(parser: ArgumentParser, schema: Schema, titles: Mapping[str, str]) -> None:
    """Add the options ``--GROUP.NAME`` of a schema to a parser.

    Args:
        parser: the parser.
        schema: the groups of options.
        titles: what the help says above each group; by default its name.
    """
    for group, cls in schema.items():
        section = parser.add_argument_group(titles.get(group, group))
        section.add_class_arguments(cls, group, as_group=False)


def parse_arguments(
    parser: ArgumentParser, arguments: Sequence[str], schema: Schema | None = None
) -> Namespace:
    """Return the values given on a command line, with the parser's defaults for the others.

    Args:
        parser: a parser made by `make_parser`.
        arguments: the words of the command line.
        schema: the groups of options that were added to the parser.

    Raises:
        UsageError: an option is unknown, or its value is missing or of the wrong type.
    """
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        known = re.findall(r"^ +(?:-h, )?(--[\w.-]+)", parser.format_help(), re.M)
        raise _explained(error, schema or {}, known) from error


def complete(schema: Schema, settings: Settings) -> dict[str, dict[str, Any]]:
    """Return settings with every value in its declared type, and defaults for those left out.

    Raises:
        UsageError: a name is unknown, or a value is missing or of the wrong type.
    """
    parser = ArgumentParser(exit_on_error=False)
    add_options(parser, schema, {})
    names = [str(key).split(".", 1) for key in parser.get_defaults().keys()]  # noqa: SIM118
    for group, values in settings.items():
        check_keys(values, [name for section, name in names if section == group], group)
    try:
        parsed = parser.parse_object({group: dict(values) for group, values in settings.items()})
    except ArgumentError as error:
        raise _explained(error, schema, ()) from error
    return values_by_group(schema, parsed)


def values_by_group(schema: Schema, parsed: Namespace) -> dict[str, dict[str, Any]]:
    """Return the values of a schema's options among those that were parsed."""
    return {group: dict(parsed.get(group, Namespace()).items()) for group in schema}


def as_arguments(settings: Settings) -> list[str]:
    """Return the words of a command line that give these values."""
    return [
        word
        for group, values in settings.items()
        for name, value in values.items()
        for word in (f"--{group}.{name}", value if isinstance(value, str) else json.dumps(value))
    ]


def check_keys(content: object, known: Iterable[str], where: str) -> Mapping[str, Any]:
    """Return a mapping whose keys are all known.

    Raises:
        UsageError: ``content`` is something else or has an unknown key; the nearest is suggested.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"{where}: expected names with values, got {content!r}")
    known = list(known)
    for key in content:
        if key not in known:
            raise unknown(f"name in {where}", key, known)
    return content


def _explained(error: ArgumentError, schema: Schema, options: Iterable[str]) -> UsageError:
    """Return the error in words that name the option, what arrived and what was expected."""
    message = str(error)
    if unrecognized := re.match(r"unrecognized arguments: ([^\s=]+)", message):
        if not unrecognized[1].startswith("-"):
            return UsageError(f"unexpected argument {unrecognized[1]!r}")
        return unknown("option", unrecognized[1], options)
    wrong = re.match(r'Parser key "([\w.]+)":.*(?:Got|Given) value: (.*)', message, re.S)
    if not wrong:
        return UsageError(message)
    option, value = wrong.groups()
    hint = _hint(option, schema)
    if get_origin(hint) is Literal:
        return unknown(option, value, [str(choice) for choice in get_args(hint)])
    return UsageError(f"{option}: expected {_in_words(hint)}, got {value!r}")


def _hint(option: str, schema: Schema) -> Any:
    """Return the declared type of an option; one outside the schema is an integer, like a seed."""
    group, _, name = option.partition(".")
    if group not in schema:
        return int
    return inspect.signature(schema[group], eval_str=True).parameters[name].annotation


def _in_words(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_in_words(part) for part in get_args(hint))
    return _TYPES.get(hint) or str(hint)
