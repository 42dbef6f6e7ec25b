"""The prefix index: who has which blocks of a prompt cached."""
