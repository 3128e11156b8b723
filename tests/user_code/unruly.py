"""Providers for Faker that do what a method should not."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from faker.providers import BaseProvider


class UnrulyProvider(BaseProvider):
    calls = 0

    def failing(self) -> str:
        raise KeyError("no such plan")  # its line is named by a test

    def leaving(self) -> str:
        sys.exit("enough")

    def crashing(self) -> str:
        os._exit(7)

    def variables(self) -> str:
        return " ".join(os.environ)

    def forking(self) -> str:
        return "parent" if os.fork() else "child"

    def talkative(self) -> str:
        print("a line that is no answer")
        return f"read {sys.stdin.read()!r}"

    def hanging(self) -> str:
        self.counted()
        time.sleep(600)
        return "late"

    def hanging_later(self) -> str:
        type(self).calls += 1
        if self.calls > 1:
            self.hanging()
        return "in time"

    def counted(self) -> str:
        with Path(os.environ["CALLS"]).open("a") as file:
            file.write(".")
        return "counted"
