"""Workers: several processes that serve clients at one port, under a supervisor."""
