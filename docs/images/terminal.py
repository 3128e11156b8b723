"""Record the commands below in a terminal of their own, and write the picture of it for the README.

$ BULKSEED_HOME=$(mktemp -d) python docs/images/terminal.py
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import sys
import termios
from pathlib import Path
from typing import Final

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.text import Text

COLUMNS: Final = 96
ROWS: Final = 48
SESSION: Final = (
    "bulkseed load --scale 100x",
    'bulkseed psql -c "SELECT name, is_dm, count(*) FROM messages JOIN channels ON channels.id = channel_id'
    ' GROUP BY channels.id ORDER BY channels.id LIMIT 3"',
)
PICTURE: Final = Path(__file__).with_suffix(".svg")


def record(command: str) -> str:
    """Run ``command`` in a pseudo-terminal, and return all that it printed. Raises SystemExit if it fails."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm-256color"
        program, *arguments = shlex.split(command)
        os.execvp(program, [program, *arguments])  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    printed = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux: the child has closed the terminal
            break
        if not piece:
            break
        printed += piece
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"{command} failed:\n{printed.decode()}")
    return printed.decode()


def final_screen(printed: str) -> list[str]:
    """Return the lines that are on the screen at the end. Knows the sequences that rich uses to redraw its bars."""
    lines, line = [""], 0
    for part in re.split(r"(\r\n|\r|\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh])", printed):
        if part == "\r\n":
            line += 1
            lines += [""] * (line == len(lines))
        elif part.endswith("A") and part.startswith("\x1b["):
            line -= int(part[2:-1] or 1)
        elif part == "\x1b[2K" or (part == "\r" and line == len(lines) - 1):
            lines[line] = ""
        elif part and part[0] != "\r" and not part.startswith("\x1b[?"):
            lines[line] += part
    return lines


def main() -> None:
    """Write the picture."""
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115
    for command in SESSION:
        console.print(Text(f"$ {command}", style="bold"))
        for line in AnsiDecoder().decode("\n".join(final_screen(record(command)))):
            console.print(line)
    console.save_svg(str(PICTURE), title="bulkseed")


if __name__ == "__main__":
    main()
