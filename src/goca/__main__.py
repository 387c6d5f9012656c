"""``python -m goca``: the same as the program ``goca``."""

from goca.cli import main

if __name__ == "__main__":
    main()
