"""The terminal's picture of a fleet: a table that follows the router's events, and what can be done with a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, RichLog, Static

from fd_router.admin.router_client import AdminError
from fd_router.admin.top.feed import Event
from fd_router.admin.top.rows import COLUMNS, ORDERS, cells, colour_of, decision_line, ordered, summary, trouble_line

MAX_LINES = 200


class Feed(Protocol):
    """Where the events come from."""

    def events(self) -> Iterator[Event]:
        """Give them as they come, from a thread of their own. Raises AdminError."""

    def stop(self) -> None:
        """Give no more."""


Act = Callable[[str, str], None]
"""(action, key of an instance): does it. Raises AdminError."""


HIDDEN: Final = "only with the admin token (--token-path, FD_ROUTER_ACCESS_ADMIN_TOKEN)"


class Question(ModalScreen[bool]):
    """Asks before something changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n,escape", "dismiss(False)", "No"),
    ]
    CSS = "Question { align: center middle; } Question Static { width: auto; padding: 1 2; border: round $warning; }"

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Called by textual."""
        yield Static(f"{self._question} [b]y[/b] / [b]n[/b]")


class Top(App[int]):
    """The application. Its result is the exit code."""

    CSS = """
    #head { height: 3; padding: 0 1; }
    DataTable { height: 2fr; }
    RichLog { height: 1fr; min-height: 5; border-top: solid $primary; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit_top", "Quit"),
        Binding("o", "order", "Order"),
        Binding("t", "toggle_lines", "Decisions/failures"),
        Binding("p", "pause", "Pause"),
        Binding("d", "drain", "Drain/undrain"),
        Binding("r", "remove", "Remove"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, feed: Feed, act: Act, address: str) -> None:
        super().__init__()
        self._feed = feed
        self._act = act
        self._address = address
        self._frame: dict[str, Any] | None = None
        self._hello: dict[str, Any] = {}
        self._lost = "connecting"
        self._order = ORDERS[0]
        self._is_paused = False
        self._shows_decisions = False
        self._lines: dict[bool, list[str]] = {True: [], False: []}  # of decisions, of failures
        self.problem = ""
        """Why it ended, if it did by itself."""

    def compose(self) -> ComposeResult:
        """Called by textual."""
        yield Static(id="head")
        with Vertical():
            table: DataTable[Text | str] = DataTable(cursor_type="row", zebra_stripes=True)
            yield table
            yield RichLog(max_lines=MAX_LINES, wrap=True)
        yield Footer()

    def on_mount(self) -> None:
        """Called by textual."""
        self.query_one(DataTable).focus()
        self._show_head()
        self.run_worker(self._follow, thread=True, exclusive=True)

    def on_unmount(self) -> None:
        """Called by textual."""
        self._feed.stop()

    def _follow(self) -> None:
        """In a thread: take the events."""
        try:
            for name, value in self._feed.events():
                self.call_from_thread(self.on_event_of_router, name, value)
        except AdminError as error:
            self.problem = str(error)
            self.call_from_thread(self.exit, 1)

    def on_event_of_router(self, name: str, value: Any) -> None:
        """Take one event."""
        if name == "lost":
            self._lost = str(value)
        elif name == "hello":
            self._hello, self._lost = value, ""
            if not value.get("sees_all", True):
                self._show_lines()
        elif name == "state" and not self._is_paused:
            self._frame = value
            self._note_lines(value)
            self._show_fleet()
        self._show_head()

    def _note_lines(self, frame: dict[str, Any]) -> None:
        for is_decision, field, write in ((True, "decisions", decision_line), (False, "troubles", trouble_line)):
            lines = [write(one, time.strftime("%H:%M:%S", time.localtime(one["at"]))) for one in frame.get(field, ())]
            if "traffic" not in frame:  # the first frame of a connection tells what was before
                self._lines[is_decision].clear()
            self._lines[is_decision] = [*self._lines[is_decision], *lines][-MAX_LINES:]
            if is_decision is self._shows_decisions:
                for line in lines:
                    self.query_one(RichLog).write(Text(line))

    def _show_head(self) -> None:
        router = (self._frame or self._hello).get("router") or {}
        policies = ", ".join(f"{role} by {policy}" for role, policy in router.get("policies", {}).items())
        state = self._lost or ("paused" if self._is_paused else "draining" if router.get("is_draining") else "live")
        head = Text(f"{router.get('name', 'fd-router')} {router.get('version', '')} at {self._address} ", style="bold")
        head.append(f"[{state}] {policies}\n", style="red" if self._lost else "")
        head.append(summary(self._frame) if self._frame is not None else "")
        self.query_one("#head", Static).update(head)

    def _show_fleet(self) -> None:
        """Put the frame into the table; the cursor stays with its instance."""
        assert self._frame is not None
        table = self.query_one(DataTable)
        chosen = self._chosen()
        entries = ordered(self._frame["instances"], self._order)
        rows = [cells(entry) for entry in entries]
        table.clear(columns=True)
        for place, name in enumerate(COLUMNS):  # as wide as need be: an address is of no use in part
            table.add_column(name, key=name, width=max(len(row[place]) for row in [COLUMNS, *rows]))
        keys = []
        for entry, row in zip(entries, rows, strict=True):
            shown: list[Text | str] = [*row]
            shown[2] = Text(row[2], style=colour_of(entry))
            key = f"{entry['key']} {entry['state'] == 'removed'}"  # one that came back may still run as removed, too
            keys.append(key)
            table.add_row(*shown, key=key)
        if chosen in keys:
            table.move_cursor(row=keys.index(chosen))

    def _chosen(self) -> str:
        table = self.query_one(DataTable)
        if not table.row_count:
            return ""
        return str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)

    # what keys do

    def action_quit_top(self) -> None:
        """End."""
        self.exit(0)

    def action_order(self) -> None:
        """Order by the next of ``ORDERS``."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self.notify(f"by {self._order}", timeout=2)
        if self._frame is not None:
            self._show_fleet()

    def action_pause(self) -> None:
        """Change nothing until it is pressed again."""
        self._is_paused = not self._is_paused
        self._show_head()

    def action_toggle_lines(self) -> None:
        """Show decisions instead of failures, or the other way round."""
        self._shows_decisions = not self._shows_decisions
        self._show_lines()

    def _show_lines(self) -> None:
        log = self.query_one(RichLog)
        log.clear()
        log.write(Text("decisions:" if self._shows_decisions else "failures and changes:", style="dim"))
        if not self._hello.get("sees_all", True):
            log.write(Text(HIDDEN, style="dim"))
        for line in self._lines[self._shows_decisions]:
            log.write(Text(line))

    def action_drain(self) -> None:
        """Drain the chosen instance, or take that back."""
        key = self._chosen().partition(" ")[0]
        entries = self._frame["instances"] if self._frame is not None else []
        is_draining = any(entry["key"] == key and "draining" in entry["flags"] for entry in entries)
        self._ask("undrain" if is_draining else "drain", key)

    def action_remove(self) -> None:
        """Remove the chosen instance."""
        self._ask("remove", self._chosen().partition(" ")[0])

    def _ask(self, action: str, key: str) -> None:
        if not key:
            return

        def answered(is_wanted: bool | None) -> None:
            if is_wanted:
                self.run_worker(lambda: self._do(action, key), thread=True)

        self.push_screen(Question(f"{action} {key}?"), answered)

    def _do(self, action: str, key: str) -> None:
        """In a thread: have the router do it."""
        try:
            self._act(action, key)
        except AdminError as error:
            self.call_from_thread(self.notify, str(error), severity="error", timeout=8)
        else:
            self.call_from_thread(self.notify, f"{action} {key}: done")
