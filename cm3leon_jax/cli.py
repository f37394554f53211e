"""`cm3leon COMMAND`: one command, one function. Gin is met here and nowhere else.

A command's function is its interface: parameters of simple types are options (`--source` or `train.source = …` in a gin
file), parameters whose type is a config dataclass are built from gin bindings of that dataclass, under a scope named
after the command (`train/LoopConfig.steps = 1500`).
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import importlib
import inspect
import logging
import pathlib
import re
import sys
import types
import typing
from collections.abc import Callable

from cm3leon_jax.commands import COMMANDS
from cm3leon_jax.runtime import hosts
from cm3leon_jax.runtime.errors import EXIT_FINISHED, EXIT_START_AGAIN, EXIT_USER_ERROR, StartAgain, UserError
from cm3leon_jax.runtime.platform import prepare_process

GIN_CONFIGS = pathlib.Path(__file__).parent.parent / "gin_configs"


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    Without `argv` this is the program with its own arguments, and may replace its process (`prepare_process`). With it,
    it is a function like any other: a caller's process is not replaced, which would end it with what it had to do.
    """
    is_program = argv is None
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return EXIT_FINISHED
    return exit_status(lambda: _run(argv, is_program))


def exit_status(work: Callable[[], object]) -> int:
    """Does the work and returns the exit status, having said on one line what was wrong, if anything was. All processes
    of a run end alike: one that fails ends the others."""
    try:
        status = EXIT_FINISHED
        try:
            work()
        except StartAgain as stop:
            if hosts.is_first():
                print(f"cm3leon: {stop}", file=sys.stderr)
            status = EXIT_START_AGAIN
        hosts.leave(status)
        return status
    except UserError as error:
        line = " ".join(str(error).split())
        if hosts.count() > 1:
            hosts.end_all(EXIT_USER_ERROR, line)
        print(f"cm3leon: {line}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("cm3leon: interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    except Exception as error:
        if hosts.count() > 1:
            hosts.fail(error)
        raise


def _run(argv: list[str], is_program: bool) -> None:
    name, *rest = argv
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}{_nearest(name, COMMANDS)}; `cm3leon --help` lists them")
    if is_program and name != "demo":  # the demo only starts other commands
        prepare_process(argv)
    if COMMANDS[name].many_processes and not {"-h", "--help"} & set(rest):
        hosts.join()
    function = _load(name)
    options, gin_files, gin_bindings = _parse(name, function, rest)
    _call(name, function, options, gin_files, gin_bindings)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "cm3leon COMMAND [--gin_file FILE]… [--gin.NAME=VALUE]… [options]",
            "",
            "CM3Leon in JAX: retrieval-augmented CM3 pretraining and generation over text and images.",
            "",
            *lines,
            "",
            "`cm3leon COMMAND --help` lists a command's options. Gin files are looked for here and in gin_configs/.",
        ]
    )


def _load(name: str) -> Callable[..., None]:
    module, function = COMMANDS[name].target.split(":")
    return getattr(importlib.import_module(f"cm3leon_jax.commands.{module}"), function)


def _simple_type(annotation: object) -> type | None:
    """str, int, float, bool or list[str] of an option; None for a config dataclass."""
    optional = [part for part in typing.get_args(annotation) if part is not type(None)]
    if isinstance(annotation, types.UnionType) and len(optional) == 1:
        annotation = optional[0]
    if typing.get_origin(annotation) is list:
        return list
    return annotation if annotation in (str, int, float, bool) else None


def _parse(name: str, function: Callable, argv: list[str]) -> tuple[dict, list[str], list[str]]:
    """Command line -> (options given, gin files, gin bindings)."""
    parser = argparse.ArgumentParser(
        prog=f"cm3leon {name}", description=inspect.getdoc(function), formatter_class=argparse.RawTextHelpFormatter
    )
    parser.error = _raise_usage_error  # type: ignore[method-assign]
    parser.add_argument("--gin_file", action="append", default=[], metavar="FILE", help="may be repeated")
    for option, annotation in typing.get_type_hints(function).items():
        kind = _simple_type(annotation)
        if option == "return" or kind is None:
            continue
        if kind is bool:
            parser.add_argument(f"--{option}", action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS)
        elif kind is list:
            parser.add_argument(f"--{option}", action="append", default=argparse.SUPPRESS, help="may be repeated")
        else:
            parser.add_argument(f"--{option}", type=kind, default=argparse.SUPPRESS)
    bindings = [argument[len("--gin.") :] for argument in argv if argument.startswith("--gin.")]
    for binding in bindings:
        if "=" not in binding:
            raise UserError(f"--gin.{binding} has no value; write --gin.NAME=VALUE")
    given = vars(parser.parse_args([argument for argument in argv if not argument.startswith("--gin.")]))
    return given, given.pop("gin_file"), bindings


def _raise_usage_error(message: str) -> typing.NoReturn:
    raise UserError(f"{message}; `cm3leon COMMAND --help` lists the options")


def _call(name: str, function: Callable, options: dict, gin_files: list[str], gin_bindings: list[str]) -> None:
    """Binds gin and calls the command's function with its options and config dataclasses."""
    import gin

    from cm3leon_jax.gin_names import register

    register(gin)
    gin.clear_config()
    for place in (".", str(GIN_CONFIGS)):
        gin.add_config_file_search_path(place)
    scope = COMMANDS[name].scope or function.__name__
    logging.disable(logging.ERROR)  # gin logs each place where a file was not, before it finds it in the next
    try:
        gin.parse_config_files_and_bindings(
            [file if file.endswith(".gin") else f"{file}.gin" for file in gin_files], _quoted(gin_bindings)
        )
        with gin.config_scope(scope):
            for parameter, annotation in typing.get_type_hints(function).items():
                if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
                    options[parameter] = gin.get_configurable(annotation.__name__)()
        bound = _bound_options(gin, function)
    except (ValueError, TypeError, OSError, SyntaxError, NameError) as error:
        raise UserError(_explain(error)) from error
    finally:
        logging.disable(logging.NOTSET)
    missing = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.name not in options | bound
    ]
    if missing:
        raise UserError(f"{name} needs --{missing[0]} VALUE (or {scope}.{missing[0]} = VALUE in a gin file)")
    function(**{**bound, **options})


def _bound_options(gin: typing.Any, function: Callable) -> dict:
    """The values that gin files give to a command's own options, macros resolved."""
    bound = {}
    for option, annotation in typing.get_type_hints(function).items():
        if option == "return" or _simple_type(annotation) is None:
            continue
        try:
            bound[option] = gin.query_parameter(f"{function.__name__}.{option}")
        except ValueError:
            continue
        if hasattr(bound[option], "scoped_configurable_fn"):  # a %MACRO
            bound[option] = bound[option].scoped_configurable_fn()
    return bound


def _quoted(bindings: list[str]) -> list[str]:
    """Lets the shell write --gin.NAME=text without inner quotes: what is no Python value or gin reference is text."""
    result = []
    for binding in bindings:
        name, value = binding.split("=", 1)
        result.append(f"{name} = {value}" if _is_gin_value(value.strip()) else f"{name} = {value!r}")
    return result


def _is_gin_value(text: str) -> bool:
    """Brackets, quotes and references are gin's even where they are wrong, so that gin says so."""
    if re.match(r"[\[({'\"@%]", text):
        return True
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return True


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _explain(error: Exception) -> str:
    """One line for what gin says over many, with the nearest known name."""
    from cm3leon_jax.gin_names import configurable_names, parameter_names

    text = str(error)
    where = " ".join(text.split("In ", 1)[1].split()) if "In " in text else ""
    where = f" (in {where})" if where else ""
    if match := re.search(r"No configurable matching '([^']*)'", text):
        name = match[1].split("/")[-1]
        return f"unknown gin name {match[1]!r}{_nearest(name, configurable_names())}{where}"
    if match := re.search(r"Configurable '([^']*)' doesn't have a parameter named '([^']*)'", text):
        return f"{match[1]} has no parameter {match[2]!r}{_nearest(match[2], parameter_names(match[1]))}{where}"
    if match := re.search(r"No bindings specified for '([^/']*)/gin.macro'", text):
        return f"the gin macro {match[1]} is not set; give --gin.{match[1]}=VALUE"
    if match := re.search(r"(\w+)\.__init__\(\) missing .* arguments?: (.*)", text):
        names = ", ".join(re.findall(r"'(\w+)'", match[2].splitlines()[0]))
        kind = "--gin_file models/350m" if match[1] == "DecoderConfig" else f"a gin file with {match[1]}"
        return f"{match[1]} needs {names}; give {kind}, or --gin.{match[1]}.NAME=VALUE"
    if match := re.search(r"Unable to open file: (\S+?)\.? ", text + " "):
        return f"no gin file {match[1]}; it is looked for here and in {GIN_CONFIGS}"
    return f"gin: {' '.join(text.split())}"


if __name__ == "__main__":
    sys.exit(main())
