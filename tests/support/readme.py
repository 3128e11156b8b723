"""The README and the blocks in it."""

from __future__ import annotations

import re
from typing import Final

from support.commands import ROOT

README: Final = (ROOT / "README.md").read_text()
BLOCKS: Final = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
NAMED: Final = {
    named[1]: text for _, text in BLOCKS if (named := re.match(r"(?:#|--) ([\w./-]+\.(?:toml|py|sql|yaml))\n", text))
}
"""The files among the examples: each begins with a comment that is its name."""
