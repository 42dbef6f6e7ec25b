from tests.support.membership import changes, clock, describe, log, make_registry, registry

__all__ = ["changes", "clock", "describe", "log", "make_registry", "registry"]
