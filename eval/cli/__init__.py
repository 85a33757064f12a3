"""The command line: ``elpa``, or ``python -m eval``; a file a group of commands."""

from __future__ import annotations

import sys

import typer

from elpa_env.errors import InputError
from eval.cli import common, compare, data, discover, models, search, spaces

app = typer.Typer(
    help="Generate compositions of a crystal prototype, and score any generator of them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _command in (*compare.COMMANDS, *models.COMMANDS, *search.COMMANDS):
    app.command(_command.__name__.replace("_", "-"))(_command)
app.add_typer(data.app, name="data")
app.add_typer(spaces.app, name="spaces")
app.add_typer(discover.app, name="discover")

_INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended; newer versions of Typer return it themselves."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: one line and status 2 for bad input, 130 when interrupted."""
    if not (sys.argv[1:] if arguments is None else arguments):
        arguments = ["--help"]
    common.prepare()
    try:
        status = app(arguments, standalone_mode=False)
        common.flush()
    except InputError as error:
        common.warn(str(error))
        status = 2
    except common.UsageError as error:
        common.warn(error.format_message())
        status = 2
    except OSError as error:
        if error.strerror is None:
            raise
        common.warn(f"cannot use {error.filename or 'standard output'}: {error.strerror}")
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        common.warn("interrupted")
    common.silence_if_broken()
    sys.exit(status or 0)


if __name__ == "__main__":
    main()
