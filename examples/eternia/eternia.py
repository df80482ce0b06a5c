# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small Eternia: a world that keeps saving itself, and a health check that looks at what was saved."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

VERSION = "1.0.0"
SEEDED_SAVES = 1900  # a first database of about 1 MB
ZONES = ["Amber Archive", "Basalt Garden", "Choir of Glass", "Drowned Orchard", "Fog Harbour", "Salt Cathedral"]
EMOTIONS = ["wonder", "grief", "curiosity", "calm", "longing", "dread", "joy", "resolve", "tenderness", "awe"]
SIGHTS = [
    "a staircase that ends in the sky",
    "three lamps nobody had lit",
    "a door painted on the rain",
    "an orchard growing under still water",
    "letters in a hand I almost know",
    "a bird made of folded maps",
]
FEELINGS = ["I stayed until the light changed.", "It felt like being remembered.", "I did not dare to touch it."]
MODIFIERS = [("weather", "slow rain"), ("time", "minutes stretch"), ("gravity", "steps land softly"), ("sound", "echo")]
MAXIMA = {"max_memories": 1000, "max_discoveries": 500, "max_explored_zones": 200, "max_checkpoints": 50}

TABLES = {
    "schema_version": "id INTEGER PRIMARY KEY, version INTEGER NOT NULL, updated_at TEXT NOT NULL",
    "state": "id INTEGER PRIMARY KEY, version TEXT NOT NULL, timestamp TEXT NOT NULL, last_emotion TEXT, "
    f"last_intensity REAL, last_dominance REAL, last_zone TEXT, evolution_stats TEXT, {', '.join(MAXIMA)}",
    "memories": "state_id INTEGER, description TEXT, emotional_quality TEXT, clarity REAL, timestamp TEXT, data TEXT",
    "discoveries": "state_id INTEGER, name TEXT, category TEXT, timestamp TEXT, data TEXT",
    "explored_zones": "state_id INTEGER, name TEXT, timestamp TEXT",
    "modifiers": "state_id INTEGER, zone TEXT, type TEXT, effect TEXT, timestamp TEXT, data TEXT",
    "checkpoints": "state_id INTEGER, path TEXT, timestamp TEXT",
}


class WorldError(Exception):
    """A save, or a look at what was saved, failed; the message says why."""


def now() -> datetime:
    return datetime.now(timezone.utc)


def iso(moment: datetime | None = None) -> str:
    return (moment or now()).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def say(message: str) -> None:
    print(f"{iso()} {message}", flush=True)


def imagine_save(number: int, at: datetime) -> dict[str, Any]:
    """What is new in save `number`, with the keys of the JSON snapshot: the same world for the same number."""
    rng = random.Random(number)
    zone, emotion, when = rng.choice(ZONES), rng.choice(EMOTIONS), iso(at)
    kind, effect = rng.choice(MODIFIERS)
    modifier = {"type": kind, "effect": effect, "timestamp": when}
    discovery = {"name": rng.choice(SIGHTS), "category": "artefact", "timestamp": when}
    checkpoint = {
        "path": f"artifacts/checkpoints/world_{number:08d}.json",
        "kind": "auto",
        "label": f"In the {zone}",
        "created_at": when,
        "target_path": None,
    }
    return {
        "timestamp": when,
        "version": VERSION,
        "last_zone": zone,
        **MAXIMA,
        "last_intensity": round(rng.random(), 3),
        "last_dominance": round(rng.random(), 3),
        "emotion": {"name": emotion, "valence": round(rng.uniform(-1, 1), 3)},
        "evolution": {"intellect": number, "senses": round(number / 3, 1)},  # this is how a snapshot counts its saves
        "explored_zones": [zone],
        "modifiers": {zone: [modifier]} if rng.random() < 0.3 else {},
        "memories": [
            {
                "description": f"In the {zone} I found {rng.choice(SIGHTS)}. {rng.choice(FEELINGS)}",
                "emotional_quality": rng.choice(EMOTIONS),
                "clarity": round(rng.random(), 3),
            }
            for _ in range(rng.randint(1, 2))
        ],
        "discoveries": [discovery] if rng.random() < 0.3 else [],
        "checkpoints": [checkpoint] if number % 25 == 0 else [],
    }


class DatabaseWorld:
    """The world in SQLite: every save inserts a whole new state and what belongs to it in one transaction."""

    def __init__(self, path: Path, journal_mode: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute(f"PRAGMA journal_mode={journal_mode}")
        for table, columns in TABLES.items():
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
        self._connection.execute("INSERT OR IGNORE INTO schema_version VALUES (1, 1, ?)", (iso(),))
        self._opened = os.stat(path)

    def save(self, *moments: datetime) -> int:
        """Commit one save for each moment, all in one transaction; the id of the last."""
        with self._lock:
            self._refuse_another_file()
            try:
                with self._connection:
                    self._connection.execute("BEGIN IMMEDIATE")
                    return [self._insert(moment) for moment in moments][-1]
            except sqlite3.Error as error:
                raise WorldError(f"{self.path}: the save failed: {error}") from error

    def look(self) -> dict[str, Any]:
        """How many saves the file at the path holds, read through a connection of its own."""
        self._refuse_another_file()
        try:
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True)) as reader:
                saves, last = reader.execute("SELECT count(*), coalesce(max(id), 0) FROM state").fetchone()
        except sqlite3.Error as error:
            raise WorldError(f"{self.path} cannot be read: {error}") from error
        return {"saves": saves, "last_save_id": last}

    def close(self) -> None:
        self._connection.close()

    def _refuse_another_file(self) -> None:
        # SQLite goes on writing into a file that was deleted or renamed away, and those saves are lost without a word.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self.path), self._opened):
                return
        raise WorldError(f"{self.path} was deleted or replaced while it was open; restart Eternia")

    def _insert(self, at: datetime) -> int:
        run = self._connection.execute
        number: int = run("SELECT coalesce(max(id), 0) + 1 FROM state").fetchone()[0]
        save = imagine_save(number, at)
        when, zone, data = save["timestamp"], save["last_zone"], json.dumps({"zone": save["last_zone"]})
        rows = {
            "state": [
                (
                    VERSION,
                    when,
                    json.dumps(save["emotion"]),
                    save["last_intensity"],
                    save["last_dominance"],
                    zone,
                    json.dumps(save["evolution"]),
                    *MAXIMA.values(),
                )
            ],
            "memories": [(*memory.values(), when, data) for memory in save["memories"]],
            "discoveries": [(*discovery.values(), data) for discovery in save["discoveries"]],
            "explored_zones": [(name, when) for name in save["explored_zones"]],
            "modifiers": [(zone, *modifier.values(), data) for modifier in save["modifiers"].get(zone, [])],
            "checkpoints": [(checkpoint["path"], when) for checkpoint in save["checkpoints"]],
        }
        for table, found in rows.items():
            for row in found:
                run(f"INSERT INTO {table} VALUES (?{', ?' * len(row)})", (number, *row))
        return number


class StateWorld:
    """The world in a JSON snapshot: every save replaces the whole file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"evolution": {"intellect": 0}}
        if path.exists():
            self._state = json.loads(path.read_text(encoding="utf-8"))

    def save(self, *moments: datetime) -> int:
        """Write the snapshot once, grown by one save for each moment; the number of the last."""
        with self._lock:
            for moment in moments:
                number: int = self._state["evolution"]["intellect"] + 1
                new = imagine_save(number, moment)
                for key in ("memories", "discoveries", "explored_zones", "checkpoints"):
                    old = [item for item in self._state.get(key, []) if item not in new[key]]
                    new[key] = [*old, *new[key]][-MAXIMA[f"max_{key}"] :]
                self._state = {**new, "modifiers": {**self._state.get("modifiers", {}), **new["modifiers"]}}
            staged = self.path.with_name(f".{self.path.name}.new")
            try:
                staged.write_text(json.dumps(self._state, indent=1), encoding="utf-8")
                staged.replace(self.path)
            except OSError as error:
                raise WorldError(f"{self.path}: the save failed: {error.strerror}") from error
            return number

    def look(self) -> dict[str, Any]:
        """How many saves made the snapshot at the path."""
        try:
            saves = json.loads(self.path.read_text(encoding="utf-8"))["evolution"]["intellect"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise WorldError(f"{self.path} cannot be read: {error!r}") from error
        return {"saves": saves, "last_save_id": saves}

    def close(self) -> None: ...


class Eternia:
    """A world, and what its last save came to."""

    def __init__(self, world: DatabaseWorld | StateWorld) -> None:
        self.world = world
        self._failure = ""

    def save(self) -> dict[str, Any]:
        try:
            number = self.world.save(now())
        except WorldError as error:
            if str(error) != self._failure:
                say(str(error))
            self._failure = str(error)
            raise
        self._failure = ""
        return {"id": number}

    def keep_saving(self, writes_per_second: float, stop: threading.Event) -> None:
        next_save = time.monotonic()
        while writes_per_second > 0 and not stop.wait(max(0.0, next_save - time.monotonic())):
            next_save = max(next_save + 1 / writes_per_second, time.monotonic())
            with contextlib.suppress(WorldError):
                self.save()

    def health(self) -> dict[str, Any]:
        try:
            facts, reason = self.world.look(), self._failure
        except WorldError as error:
            facts, reason = {}, str(error)
        status = "degraded" if reason else "healthy"
        world = {"status": status, **facts, **({"reason": reason} if reason else {})}
        return {"status": status, "version": VERSION, "timestamp": iso(), "components": {"world": world}}


def answering_for(eternia: Eternia) -> type[BaseHTTPRequestHandler]:
    routes = {"GET /": eternia.world.look, "GET /health": eternia.health, "POST /save": eternia.save}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            route = routes.get(f"{self.command} {self.path}")
            try:
                status, body = (200, route()) if route else (404, {"error": f"There is only {', '.join(routes)}."})
            except WorldError as error:
                status, body = 503, {"error": str(error)}
            content = json.dumps(body).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        # The name that http.server looks for.
        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Health checks would fill the disk."""

    return Handler


def read_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--database", type=Path, default=Path("data/eternia.db"), help="the SQLite file")
    parser.add_argument("--state", type=Path, default=Path("logs/state_snapshot.json"), help="the JSON snapshot")
    parser.add_argument("--kind", choices=["database", "state"], default="database", help="which of the two is written")
    parser.add_argument("--port", type=int, default=8000, help="on 127.0.0.1")
    parser.add_argument("--writes-per-second", type=float, default=2.0, help="with 0, only POST /save writes")
    parser.add_argument("--journal-mode", choices=["wal", "delete"], default="wal", help="of the SQLite file")
    return parser.parse_args(arguments)


def open_world(options: argparse.Namespace) -> DatabaseWorld | StateWorld:
    """The world at its absolute path; a new one gets a past of one save a minute."""
    path: Path = (options.state if options.kind == "state" else options.database).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    world = StateWorld(path) if options.kind == "state" else DatabaseWorld(path, options.journal_mode)
    if is_new:
        world.save(*(now() - timedelta(minutes=ago) for ago in range(SEEDED_SAVES, 0, -1)))
        # Opened anew, a database has its past in the main file, and not all of it in the WAL.
        world.close()
        return open_world(options)
    return world


def main(arguments: list[str]) -> int:
    options = read_options(arguments)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        eternia = Eternia(open_world(options))
        server = ThreadingHTTPServer(("127.0.0.1", options.port), answering_for(eternia))
    except (OSError, ValueError, sqlite3.Error, WorldError) as error:
        say(f"Eternia cannot start on port {options.port}: {error}")
        return 1
    writer = threading.Thread(target=eternia.keep_saving, args=(options.writes_per_second, stop))
    writer.start()
    threading.Thread(target=server.serve_forever).start()
    say(f"Eternia {VERSION} listens on http://127.0.0.1:{options.port} and saves to {eternia.world.path}")
    stop.wait()
    server.shutdown()
    writer.join()
    eternia.world.close()
    say("Eternia stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
