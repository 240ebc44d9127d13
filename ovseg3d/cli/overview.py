"""`ovseg3d --help`: one line per command, in the order of work. Imports no command."""

from rich.table import Table

from ovseg3d.cli.commands import COMMANDS
from ovseg3d.cli.console import get_console

_EXAMPLE = """\
  ovseg3d synth room                     a synthetic demo room
  ovseg3d train room                     outputs/room/latest
  ovseg3d view outputs/room/latest       in the browser: query, select, export
  ovseg3d query outputs/room/latest "a sofa"
"""


def print_overview() -> None:
    """Print the purpose of the program, its commands by group, and an example."""
    console = get_console()
    console.print("[bold]ovseg3d[/bold]: open-vocabulary 3D segmentation of scenes captured with a phone.\n")
    console.print("usage: ovseg3d COMMAND [flags]        ovseg3d COMMAND --help\n", markup=False)
    width = max(len(f"{name} {entry.usage}") for name, entry in COMMANDS.items()) + 2
    for group in dict.fromkeys(entry.group for entry in COMMANDS.values()):
        console.print(f"[bold]{group}[/bold]")
        table = Table.grid(padding=(0, 2), pad_edge=True)
        table.add_column(width=width, no_wrap=True)
        table.add_column()
        for name, entry in COMMANDS.items():
            if entry.group == group:
                table.add_row(f"[cyan]{name}[/cyan] {entry.usage}".replace("[-", "\\[-"), entry.summary)
        console.print(table)
    console.print("\n[bold]Example[/bold]")
    console.print(_EXAMPLE, markup=False)
    console.print("Exit codes: 0 done, 1 a bug, 2 an error you can fix, 130 interrupted.")
