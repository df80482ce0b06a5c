# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the values of a block of the configuration by their keys, and says of each what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import units
from .errors import PATH_LINE, ConfigError, is_secret, quoted, shortened

# A store may give up on who is silent for 20 s (S3's RequestTimeout), and four connections share the line.
_LEAST_RATE = 64_000
# More backups than any store holds, and more days than there are: what counts and adds them knows no larger ones.
_MOST = 1_000_000_000
_URL = r"(?a:https?://[^/?#@\s]+(?:[/?][!-~]*)?)"


# https://github.com/C2SP/C2SP/blob/main/age.md, and OpenSSH's public keys.
_RECIPIENT = r"age1[02-9ac-hj-np-z]{58}|ssh-(?:ed25519|rsa) [A-Za-z0-9+/]+=*(?: [^\n]*)?"


class Reader:
    """Takes the values of one block by their keys; refuses a key that is not among the known ones."""

    def __init__(self, where: str, block: Any, known: tuple[str, ...]) -> None:
        if block is None:
            block = {}
        if not isinstance(block, Mapping):
            # Who gets the form wrong may have put a secret into a list, or a token into an address.
            is_address = isinstance(block, str) and "://" in block
            is_list = isinstance(block, (list, tuple))
            shown = "a list" if is_list else "an address" if is_address else quoted(block)
            raise ConfigError(f"{where} is {shown}; it must be a block of keys and values.")
        for key in block:
            if key not in known:
                import difflib

                near = difflib.get_close_matches(str(key)[:100], known, n=1)
                # Who slipped a line up may have made a key of a secret.
                shown = quoted(key) if is_secret(key) else shortened(key)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"{where}.{shown} is not a key that exists.{hint} Allowed: {listed(known)}.")
        self._where = where
        self._block = block

    def has(self, key: str) -> bool:
        return self._block.get(key) is not None

    def mentions(self, key: str) -> bool:
        """Whether the key is there, also with nothing behind it."""
        return key in self._block

    def block(self, key: str, known: tuple[str, ...]) -> Reader:
        return Reader(f"{self._where}.{key}", self._take(key), known)

    def boolean(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false, without quotes")
        return value

    def whole(self, key: str, default: int, least: int = 0, most: int = _MOST) -> int:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(key, value, f"a whole number, {least} or more, and no more than {most:,}")
        return value

    def rate(self, key: str) -> int | None:
        """Bytes a second; None where there is no limit."""
        value = self._take(key)
        if value is None:
            return None
        try:
            found = value if isinstance(value, int) and not isinstance(value, bool) else units.of_bytes(str(value))
        except ValueError:
            found = 0
        if not _LEAST_RATE <= found < 1 << 63:
            raise self._wrong(
                key, value, "whole bytes a second, at least 64kB: 500kB, 10MB, 10MiB, or a number without quotes"
            )
        return found

    def choice(self, key: str, allowed: tuple[str, ...], default: Any) -> Any:
        value = self._take(key, default)
        if value is not default and value not in allowed:
            raise self._wrong(key, value, f"one of {listed(allowed)}")
        return value

    def text(self, key: str, what: str, pattern: str | None = None, *, required: bool = False) -> str | None:
        value = self._take(key)
        if value is None and not required:
            return None
        if not isinstance(value, str) or not value or (pattern is not None and not re.fullmatch(pattern, value)):
            raise self._wrong(key, value, what)
        return value

    def path(self, key: str, default: str, base_dir: str | None) -> Path:
        value = self._take(key, default)
        if isinstance(value, str) and "://" in value:
            # Who slipped a line up may have put an address there, which may hold a token.
            raise self._secret(key, "a path")
        if not isinstance(value, str) or not value or "\0" in value:
            raise self._wrong(key, value, "a path")
        if len(value) > PATH_LINE:
            raise self._wrong(key, value, f"a path, of {PATH_LINE:,} characters at most")
        if Path(value).is_absolute():
            return Path(value)
        if base_dir is None:
            raise ConfigError(
                f"{self._where}.{key} is {quoted(value)}, a relative path, and there is no base_dir to begin at. "
                "Give base_dir (the application's directory on the host), or an absolute path."
            )
        return Path(base_dir, value)

    def url(self, key: str) -> str | None:
        """An address of the web, which is not shown where it is wrong: it may hold a token."""
        value = self._take(key)
        if value is not None and not (isinstance(value, str) and re.fullmatch(_URL, value) and _has_a_host(value)):
            raise self._secret(
                key, "an address such as https://example.org/path, of printable ASCII and without a password"
            )
        return value

    def recipients(self, key: str) -> tuple[str, ...]:
        """Public keys, each once; a secret one that somebody gave by mistake is not shown."""
        texts = self._take(key, ())
        allowed = "a list of public keys, each once: age1…, as `age-keygen -y KEY` prints it, or ssh-ed25519 or ssh-rsa"
        if not self.has(key):
            return ()
        if is_secret(texts):
            raise ConfigError(
                f"{self._where}.{key} has a secret key, which is not shown here. It must be {allowed}. Take the secret "
                "key out of the inventory and its history, make another (age-keygen), and give its public half."
            )
        is_list = isinstance(texts, (list, tuple)) and bool(texts)
        are_keys = is_list and all(isinstance(text, str) and re.fullmatch(_RECIPIENT, text) for text in texts)
        if not are_keys or len(set(texts)) < len(texts):
            raise self._wrong(key, texts, allowed)
        return tuple(texts)

    def command(self, key: str) -> tuple[str, ...]:
        """A program and its arguments. The program by its whole path: cron's PATH is not the one of a shell."""
        words = self._take(key, ())
        is_text = isinstance(words, (list, tuple)) and all(
            isinstance(word, str) and word and "\0" not in word for word in words
        )
        if not is_text or (words and not Path(words[0]).is_absolute()):
            raise self._secret(key, "a list of a program's absolute path and its arguments, each a text")
        return tuple(words)

    def optional_path(self, key: str, base_dir: str | None) -> Path | None:
        return self.path(key, "", base_dir) if self.has(key) else None

    def _take(self, key: str, default: Any = None) -> Any:
        value = self._block.get(key)
        return default if value is None else value

    def _secret(self, key: str, allowed: str) -> ConfigError:
        return ConfigError(
            f"{self._where}.{key} is wrong, and not shown here because it may hold a secret; it must be {allowed}."
        )

    def _wrong(self, key: str, value: Any, allowed: str) -> ConfigError:
        if isinstance(value, str):
            # A password may have any character: all before the last @ goes.
            value = re.sub(r"//\S*@", "//***@", value)
        return ConfigError(f"{self._where}.{key} is {quoted(value)}; it must be {allowed}.")


def _has_a_host(url: str) -> bool:
    from urllib.parse import urlsplit

    try:
        return bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:
        return False


def listed(words: Iterable[str]) -> str:
    """Words as a sentence names them."""
    return ", ".join(words)
