"""The `aml-mil` command: finds the subcommand, sets up logging, turns errors into one line."""

import logging
import sys
import traceback
from importlib import import_module

import click

from cli.failure import ERRORS_WITH_A_CLEAR_LINE, one_line

COMMANDS = {
    "doctor": ("cli.doctor:doctor", "Say what this machine would do, how fast, what is missing."),
    "synth": ("cli.synth:synth", "Render a synthetic cohort of cell images."),
    "folds": ("cli.folds:folds", "Split the patients of a cohort or store into stratified folds."),
    "pretrain": ("cli.pretrain:pretrain", "Train an encoder on a cohort's own cells."),
    "embed": ("cli.embed:embed", "Turn a cohort's images into features, once per encoder."),
    "fit-mil": ("cli.fit_mil:fit_mil", "Train the heads of all folds and seeds from a store."),
    "giga-ssl": ("cli.giga_ssl:giga_ssl", "Learn one vector for a patient, without labels."),
    "giga-embed": ("cli.giga_embed:giga_embed", "Turn a store's patients into such vectors."),
    "probe": ("cli.probe:probe", "See what patients' vectors are worth when labels are few."),
    "compare": ("cli.compare:compare", "Put runs and their floors side by side; draw figures."),
    "report": ("cli.report:report", "Write one offline HTML file about a run."),
    "predict": ("cli.predict:predict", "Predict patients that a run has not seen."),
    "explain": (
        "cli.explain:explain",
        "Show a patient's cells: what counted, and what each says alone.",
    ),
    "stress": ("cli.stress:stress", "See how a run's figures fall when the stain changes."),
    "store": ("cli.store:store", "Check, mend, copy and merge stores; import and export features."),
}


class LazyGroup(click.Group):
    """Imports a subcommand only when it is called, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that holds a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their one-line help, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aml-mil")
@click.option("--debug", is_flag=True, help="Show the traceback of any error.")
@click.option("-v", "--verbose", is_flag=True, help="Log what is done to stderr.")
@click.pass_context
def aml_mil(ctx: click.Context, *, debug: bool, verbose: bool) -> None:
    """Diagnose patients from single-cell images: cohort → embed → store → fit-mil → results."""
    ctx.obj = {"debug": debug}
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # aiohttp leaves tasks of a cut connection behind, and asyncio prints a traceback of each; the
    # command's own error says it once.
    logging.getLogger("asyncio").setLevel(logging.DEBUG if debug else logging.CRITICAL)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after `aml-mil`; those of the process when omitted.

    Returns:
        0 done; 1 failed with one clear line; 2 wrong usage; 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        result = aml_mil.main(args=words, prog_name="aml-mil", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("aml-mil: interrupted; the same command goes on from what is kept", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the one place where every error ends
        is_expected = isinstance(error, ERRORS_WITH_A_CLEAR_LINE)
        if not is_expected or "--debug" in words:
            traceback.print_exc()
        if is_expected:
            click.echo(f"aml-mil: error: {one_line(error)}", err=True)
        return 1
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
