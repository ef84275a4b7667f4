"""``python -m assist``."""

from assist.cli import main

if __name__ == "__main__":
    main()
