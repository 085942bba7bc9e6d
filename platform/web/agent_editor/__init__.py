"""The page on which an agent's draft is written: its form, and what was typed into it."""

from web.agent_editor.form import make_editor
from web.agent_editor.typed import add_row, read_draft, remove_row

__all__ = ["add_row", "make_editor", "read_draft", "remove_row"]
