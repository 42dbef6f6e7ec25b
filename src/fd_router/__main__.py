"""``python -m fd_router``."""

from fd_router.cli import main

if __name__ == "__main__":
    main()
