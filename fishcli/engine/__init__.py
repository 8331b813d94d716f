"""Text and a voice in, speech out: `load()` and the Engine."""

from fishcli.engine.engine import Engine, Plan, load, make_plan

__all__ = ["Engine", "Plan", "load", "make_plan"]
